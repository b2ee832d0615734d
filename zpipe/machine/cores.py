"""How many CPU cores this process can use."""

import math
import os
from pathlib import Path

from zpipe.machine.cgroup import MOUNTS, PROC, Group, groups


def usable_cores(proc: Path = PROC, mounts: Path = MOUNTS) -> int:
    """The cores in the affinity mask, or the tightest CPU quota rounded up if that is less. At least 1."""
    quotas = [_quota(group) for group in groups("cpu", proc, mounts)]
    limits = [math.ceil(quota) for quota in quotas if quota is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *limits]))


def _quota(group: Group) -> float | None:
    """CPU time per unit of wall time, in cores; None without a limit."""
    if group.version == 1:
        quota, period = group.number("cpu.cfs_quota_us"), group.number("cpu.cfs_period_us")
        return quota / period if quota and period else None
    words = group.words("cpu.max")
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else None
