"""Which process a pid stands for: pids are given away again, a pid with its start time is not."""

from pathlib import Path

import psutil

_STARTED_FIELD = 19  # of /proc/<pid>/stat, counted behind the closing bracket of the name


def started(pid: int) -> str:
    """Tell when the process started, as a text to compare; ProcessLookupError when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # In ticks since the machine's start, which no change of the clock moves; the boot id tells two starts apart.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _started_by_clock(pid)
    if fields[0] == "Z":
        raise ProcessLookupError(f"{pid} has ended")
    return f"{boot}:{fields[_STARTED_FIELD]}"


def _started_by_clock(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess as gone:
        raise ProcessLookupError(f"{pid} does not exist") from gone
