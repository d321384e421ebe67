"""What the sensors saw: values only. An unknown is ``None``, never 0."""

import msgspec


class GpuReadings(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU at one moment. A GPU in trouble keeps its place here, with what is still known."""

    index: int
    """its place in NVML's order, from 0; it may change from one boot to the next"""
    uuid: str | None = None
    """its name that no reboot changes, such as ``GPU-8f2c...``"""
    name: str | None = None
    """its model, such as ``NVIDIA H100 80GB HBM3``"""
    memory_used_mib: int | None = None
    """memory held by processes; the driver's own reserve is not counted where NVML tells it"""
    memory_total_mib: int | None = None
    """memory built in, the driver's reserve included"""
    utilization_percent: float | None = None
    """share of the last sample period in which a kernel ran, 0 to 100"""
    temperature_c: float | None = None
    """the temperature of the chip"""
    temperature_limit_c: float | None = None
    """the temperature at which the GPU slows itself down"""
    pids: tuple[int, ...] | None = None
    """processes that hold its memory; in a container, NVML may give them their pids outside"""
    pids_mib: tuple[int | None, ...] | None = None
    """the memory that each of these holds, in their order; None: the driver does not tell"""
    power_w: float | None = None
    """power drawn by the board"""
    power_limit_w: float | None = None
    """the limit that is set, which is not always the one that was asked for"""
    ecc_uncorrected: int | None = None
    """memory errors that ECC could not repair since the driver was loaded"""
    xids: tuple[int, ...] | None = None
    """the driver's error codes (Xid) since the last reading; None where they cannot be heard"""

    @property
    def trouble(self) -> str | None:
        """These as a sentence; None where there are none."""
        codes = ", ".join(map(str, self.xids or ()))
        return f"the driver reports trouble with GPU {self.index} (Xid {codes})" if codes else None


class GpuAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the GPUs at a look that waits for no answer."""

    gpus: tuple[GpuReadings, ...] = ()
    """the GPUs that are known, by index"""
    trouble: str | None = None
    """why some or all of them are unknown. Without GPUs, without this and with nothing under way
    there is no GPU"""
    age_s: float | None = None
    """how long ago they were asked for; None where they are not known"""
    awaited_s: float | None = None
    """how long an answer has been under way that will tell more; None where none is. When it is
    there, or overdue, another look follows"""


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """The machine at one moment."""

    cpu_percent: float | None = None
    """share that was busy since the last reading, 0 to 100: of all cores, or of the quota of our
    control group where that is more"""
    load_1m: float | None = None
    """runnable and uninterruptible tasks, averaged over a minute; not divided by the cores"""
    memory_percent: float | None = None
    """share of the memory that is not available, 0 to 100: of the machine, or of what our control
    group may use where that is more"""
    memory_available_mib: int | None = None
    """memory that can be had without swapping, within the limit of our control group"""
    disk_free_mib: int | None = None
    """space that an ordinary user can still write where the home is"""
    cpu_temperature_c: float | None = None
    """the hottest sensor of the processor"""
    gpus: tuple[GpuReadings, ...] = ()
    """the GPUs that are known, by index; empty may mean none or unknown: ``gpu_trouble`` tells"""
    gpu_trouble: str | None = None
    """why GPU readings are missing; None when all is well, or when there simply is no GPU"""
    gpu_age_s: float | None = None
    """how long before this look the GPUs were asked for; None where they are not known"""
    gpu_awaited_s: float | None = None
    """how long an answer has been under way that tells of the GPUs as they are at this look; None
    where none is. When it is there, or overdue, another look follows"""
