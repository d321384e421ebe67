"""Speaks with NVML in the daemon's place: the child that `supervisor.host.gpu` asks.

NVML is a C library. When a GPU fails, its calls may never return, or may end the process that
made them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Literal, TypeVar

import msgspec

from supervisor.core.readings import GpuReadings
from supervisor.helper import serve

# An Xid storm must not keep the process from answering.
XIDS_MAX = 64

MIB = 2**20

Answer = TypeVar("Answer")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon asks."""

    ask: Literal["read", "limit_power"]
    watts: float | None = None
    """the limit to set on each GPU; None is each GPU's own default"""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What the NVML process answers."""

    gpus: tuple[GpuReadings, ...] = ()
    trouble: str | None = None
    """what could not be read or set"""
    broken: str | None = None
    """why NVML as a whole is of no use to this process"""
    absent: bool = False
    """whether this machine has no GPU, as far as NVML knows"""


class _Gpu:
    """One GPU, as the NVML process sees it.

    Args:
        nvml: the ``pynvml`` module, initialised.
        index: the GPU's place in NVML's order.
    """

    def __init__(self, nvml: ModuleType, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self.trouble: str | None = None
        """the first error of the last reading that is not a mere lack of a feature"""
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            # One set for each GPU: an event names its GPU by a handle, and NVML may refuse to
            # say whose handle it is once that GPU is lost, which is what the event is about.
            events = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
        except nvml.NVMLError:
            events = None
        self._events = events

    def read(self) -> GpuReadings:
        """Return what this GPU tells; ``trouble`` says afterwards why something is missing."""
        nvml = self._nvml
        self.trouble = None
        xids = self._hear_xids()
        handle = self._ask(nvml.nvmlDeviceGetHandleByIndex, self._index)
        if handle is None:
            return GpuReadings(index=self._index, xids=xids)

        # Only the second version tells the driver's reserve from what processes use.
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2)
        if memory is None:
            memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        utilization = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        power_limit_mw = self._ask(nvml.nvmlDeviceGetPowerManagementLimit, handle)
        uuid = self._ask(nvml.nvmlDeviceGetUUID, handle)
        name = self._ask(nvml.nvmlDeviceGetName, handle)
        held = self._read_processes(handle)
        return GpuReadings(
            index=self._index,
            uuid=uuid,
            name=name,
            memory_used_mib=None if memory is None else memory.used // MIB,
            memory_total_mib=None if memory is None else memory.total // MIB,
            pids=None if held is None else tuple(held),
            pids_mib=None if held is None else tuple(held.values()),
            utilization_percent=None if utilization is None else utilization.gpu,
            temperature_c=self._ask(
                nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
            ),
            temperature_limit_c=self._ask(
                nvml.nvmlDeviceGetTemperatureThreshold,
                handle,
                nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
            ),
            power_w=None if power_mw is None else power_mw / 1000,
            power_limit_w=None if power_limit_mw is None else power_limit_mw / 1000,
            ecc_uncorrected=self._ask(
                nvml.nvmlDeviceGetTotalEccErrors,
                handle,
                nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                nvml.NVML_VOLATILE_ECC,
            ),
            xids=xids,
        )

    def _read_processes(self, handle: object) -> dict[int, int | None] | None:
        """Return the processes that hold memory of this GPU, by pid, with how many MiB each holds.

        None where it does not tell.
        """
        nvml = self._nvml
        # By version: the binding's unversioned names answer an old driver with an error that is
        # no NVMLError.
        computing = self._ask(nvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
        drawing = self._ask(nvml.nvmlDeviceGetGraphicsRunningProcesses_v3, handle)
        if computing is None:
            return None
        held: dict[int, int | None] = {}
        # One that computes and draws stands in both lists, with all its memory in each.
        for process in (*(drawing or ()), *computing):
            used = process.usedGpuMemory
            held[process.pid] = None if used is None else used // MIB
        return dict(sorted(held.items()))

    def limit_power(self, watts: float | None) -> str | None:
        """Set the power limit, or the default when ``watts`` is None; return why not."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(self._index)
            if watts is None:
                limit_mw = nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle)
            else:
                least_mw, most_mw = nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
                limit_mw = min(max(round(watts * 1000), least_mw), most_mw)
            # Setting needs root even where nothing changes; looking does not.
            if nvml.nvmlDeviceGetPowerManagementLimit(handle) != limit_mw:
                nvml.nvmlDeviceSetPowerManagementLimit(handle, limit_mw)
        except nvml.NVMLError_NotSupported as error:
            # A GPU that cannot be limited has its default limit already.
            return None if watts is None else f"GPU {self._index}: {_reason(nvml, error)}"
        except nvml.NVMLError as error:
            return f"GPU {self._index}: {_reason(nvml, error)}"
        return None

    def _ask(self, call: Callable[..., Answer], *arguments: object) -> Answer | None:
        """Return what one NVML call answers, or None where this GPU does not tell.

        After the first real error nothing more is asked: each call to a GPU in trouble may take
        the driver seconds.
        """
        nvml = self._nvml
        if self.trouble is not None:
            return None
        try:
            return call(*arguments)
        except nvml.NVMLError as error:
            # These say that this GPU or driver has no such reading, not that something is wrong.
            if error.value not in {
                nvml.NVML_ERROR_NOT_SUPPORTED,
                nvml.NVML_ERROR_NO_PERMISSION,
                nvml.NVML_ERROR_NOT_FOUND,
                nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
                nvml.NVML_ERROR_INVALID_ARGUMENT,
                nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
                nvml.NVML_ERROR_NO_DATA,
                nvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED,
                nvml.NVML_ERROR_DEPRECATED,  # as NVIDIA foretells for some on newer GPUs
                nvml.NVML_ERROR_INSUFFICIENT_SIZE,  # more processes than a moment before
            }:
                self.trouble = f"GPU {self._index}: {_reason(nvml, error)}"
            return None

    def _hear_xids(self) -> tuple[int, ...] | None:
        """Return the Xid codes since the last call, or None where they cannot be heard."""
        if self._events is None:
            return None
        nvml = self._nvml
        xids: list[int] = []
        try:
            while len(xids) < XIDS_MAX:
                xids.append(nvml.nvmlEventSetWait(self._events, 1).eventData)
        except nvml.NVMLError_Timeout:
            pass  # nothing more has happened
        except nvml.NVMLError:
            return tuple(xids) or None
        return tuple(xids)


def main() -> None:
    """Be the NVML process."""
    serve(Request, _begin)


def _begin() -> tuple[Reply, Callable[[Request], Reply] | None]:
    """Return whether NVML works, and what answers requests where it does."""
    import pynvml as nvml  # noqa: PLC0415 - in this process only; the daemon stays light

    try:
        nvml.nvmlInit()
        gpus = [_Gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError_LibraryNotFound:
        return Reply(absent=True), None
    except nvml.NVMLError as error:
        return Reply(broken=_reason(nvml, error)), None
    return Reply(absent=not gpus), partial(_answer, gpus)


def _answer(gpus: Sequence[_Gpu], request: Request) -> Reply:
    """Return the reply to one request."""
    if request.ask == "limit_power":
        refusals = [gpu.limit_power(request.watts) for gpu in gpus]
        return Reply(trouble=_joined(refusals))
    readings = tuple(gpu.read() for gpu in gpus)
    trouble = _joined([gpu.trouble for gpu in gpus])
    if all(gpu.trouble for gpu in gpus):
        # Nothing is left to read here. Another process may find NVML well again, and while none
        # holds the GPUs open, they can be reset.
        return Reply(broken=trouble)
    return Reply(gpus=readings, trouble=trouble)


def _joined(reasons: Sequence[str | None]) -> str | None:
    """Return all the reasons in one line, or None when there are none."""
    return "; ".join(reason for reason in reasons if reason) or None


def _reason(nvml: ModuleType, error: Exception) -> str:
    """Return an NVML error in words, with what helps where something does."""
    if isinstance(error, nvml.NVMLError_LibRmVersionMismatch):
        return "driver/library version mismatch: needs a reboot"
    if isinstance(error, nvml.NVMLError_GpuIsLost):
        return "GPU is lost: needs a reboot"
    if isinstance(error, nvml.NVMLError_DriverNotLoaded):
        return "the NVIDIA driver is not loaded"
    if isinstance(error, nvml.NVMLError_NoPermission):
        return "no permission: needs root"
    return str(error)
