"""NVML with two GPUs that fail on demand: put this folder first on PYTHONPATH.

The constants and errors are the real binding's: its source is run here first, and then the
functions that the product calls are replaced. A function that is not replaced needs the real
library, so a test notices.

The file that FAKE_NVML names holds the faults, as JSON. It is read again at every call, so that
a fault can strike a process that was healthy before::

    {"nvmlInit": "DRIVER_NOT_LOADED",        raise that error
     "nvmlDeviceGetPowerUsage@1": "hang",    only for GPU 1; "hang" or "abort", never an error
     "*@1": "GPU_IS_LOST",                   every call for GPU 1
     "nvmlDeviceGetName": "print",           say something on stdout, then work
     "nvmlDeviceGetName": "wait",            answer once this is no longer said
     "xids@0": [79],                         what each event of GPU 0 tells, once
     "pids@0": [4711]}                       who holds memory of GPU 0
"""

# ruff: noqa: F821, N802 - the names are NVML's, and most arrive with its source

import json
import os
import signal
import sys
import time
from importlib.machinery import PathFinder
from pathlib import Path
from types import SimpleNamespace

_here = Path(__file__).parent
_real = PathFinder.find_spec("pynvml", [path for path in sys.path if Path(path) != _here])
exec(_real.loader.get_code(_real.name))  # noqa: S102

_GIB = 2**30
_limits_mw = [700_000, 700_000]
_xids_told = [0, 0]
_initialised = False


def _faults():
    name = os.environ.get("FAKE_NVML")
    return json.loads(Path(name).read_text()) if name else {}


def _meet_fault(function, index=None):
    faults = _faults()
    fault = next(
        (faults[key] for key in (f"{function}@{index}", function, f"*@{index}") if key in faults),
        None,
    )
    if fault == "hang":
        # Deaf to the end of its requests, as a process inside a C call is.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        while True:
            signal.pause()
    elif fault == "wait":
        while "wait" in _faults().values():
            time.sleep(0.01)
    elif fault == "abort":
        os.abort()
    elif fault == "print":
        os.write(1, b'{"gpus": [{"index": 7}]}\nNVRM: something odd\n')
    elif fault is not None:
        raise NVMLError(globals()[f"NVML_ERROR_{fault}"])
    elif not _initialised and function != "nvmlInit":
        raise NVMLError(NVML_ERROR_UNINITIALIZED)


def _of_gpu(function, answer):
    """A function whose first argument is a handle, which here is the index."""

    def call(handle, *arguments):
        _meet_fault(function, handle)
        return answer(handle, *arguments)

    if function not in globals():
        raise AttributeError(name=function)  # the fake must not know more than the real one
    globals()[function] = call


def nvmlInit():
    global _initialised  # noqa: PLW0603 - as the library itself does
    _meet_fault("nvmlInit")
    _initialised = True


def nvmlDeviceGetCount():
    _meet_fault("nvmlDeviceGetCount")
    return _faults().get("count", 2)


def nvmlEventSetCreate():
    _meet_fault("nvmlEventSetCreate")
    return []


def nvmlEventSetWait(events, timeout_ms):
    """Answer from the one GPU that is registered here."""
    (index,) = events
    _meet_fault("nvmlEventSetWait", index)
    xids = _faults().get(f"xids@{index}", [])
    if _xids_told[index] >= len(xids):
        raise NVMLError(NVML_ERROR_TIMEOUT)
    _xids_told[index] += 1
    return SimpleNamespace(eventData=xids[_xids_told[index] - 1])


def _memory(index, version=None):
    # The first version counts the driver's reserve as used.
    used = 10 * _GIB if version else 11 * _GIB
    return SimpleNamespace(total=80 * _GIB, used=used)


def _set_limit(index, limit_mw):
    if not 200_000 <= limit_mw <= 700_000:
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    _limits_mw[index] = limit_mw


_DRAWS = SimpleNamespace(pid=1234, usedGpuMemory=None)  # of a driver that does not tell how much


def _processes(index):
    pids = _faults().get(f"pids@{index}", [])
    return [SimpleNamespace(pid=pid, usedGpuMemory=_GIB) for pid in pids]


_of_gpu("nvmlDeviceGetHandleByIndex", lambda index: index)
_of_gpu("nvmlDeviceRegisterEvents", lambda index, types, events: events.append(index))
_of_gpu("nvmlDeviceGetUUID", lambda index: f"GPU-0000-{index}")
_of_gpu("nvmlDeviceGetName", lambda index: "NVIDIA H100 80GB HBM3")
_of_gpu("nvmlDeviceGetMemoryInfo", _memory)
_of_gpu("nvmlDeviceGetComputeRunningProcesses_v3", _processes)
_of_gpu("nvmlDeviceGetGraphicsRunningProcesses_v3", lambda index: [_DRAWS])
_of_gpu("nvmlDeviceGetUtilizationRates", lambda index: SimpleNamespace(gpu=97, memory=40))
_of_gpu("nvmlDeviceGetTemperature", lambda index, sensor: 61 + index)
_of_gpu("nvmlDeviceGetTemperatureThreshold", lambda index, threshold: 87)
_of_gpu("nvmlDeviceGetPowerUsage", lambda index: 412_500)
_of_gpu("nvmlDeviceGetPowerManagementLimit", lambda index: _limits_mw[index])
_of_gpu("nvmlDeviceGetPowerManagementDefaultLimit", lambda index: 700_000)
_of_gpu("nvmlDeviceGetPowerManagementLimitConstraints", lambda index: [200_000, 700_000])
_of_gpu("nvmlDeviceSetPowerManagementLimit", _set_limit)
_of_gpu("nvmlDeviceGetTotalEccErrors", lambda index, error_type, counter: 3)
