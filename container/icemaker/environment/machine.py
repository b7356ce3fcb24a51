"""What this container may use: CPUs, memory and shared memory; and how many processes were killed for memory.

Reads cgroup v1 and v2, inside a container and out of one. Knows nothing of GPUs.
"""

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
_UNLIMITED_BYTES = 2**60  # cgroup v1 writes a number near 2**63 where there is no limit


def available_cpus(root: Path = CGROUP_ROOT, own_cgroup: Path = OWN_CGROUP) -> int:
    """CPUs this process may use, at least 1: those of its affinity, but no more than its cgroups' quota, rounded up."""
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _cgroup_folders("cpu", root, own_cgroup):
        words = _words(folder / "cpu.max")  # v2, "150000 100000" or "max 100000"; v1 has a file for each number
        words = words or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]) > 0:
            cpus = min(cpus, int(words[0]) / int(words[1]))
    return max(1, math.ceil(cpus))


def memory_limit_bytes(root: Path = CGROUP_ROOT, own_cgroup: Path = OWN_CGROUP) -> int | None:
    """The smaller of the machine's memory and the limits of this process's cgroups; None when nothing is known."""
    limits = []
    if "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder in _cgroup_folders("memory", root, own_cgroup):
        for word in _words(folder / "memory.max") + _words(folder / "memory.limit_in_bytes"):
            if word.isdecimal() and int(word) < _UNLIMITED_BYTES:
                limits.append(int(word))
    return min((limit for limit in limits if limit > 0), default=None)


def oom_kill_count(root: Path = CGROUP_ROOT, own_cgroup: Path = OWN_CGROUP) -> int | None:
    """Processes of this cgroup that the kernel killed for memory since the cgroup began; None when unknown."""
    for folder in _cgroup_folders("memory", root, own_cgroup)[:1]:
        for name in ("memory.events", "memory.oom_control"):  # v2, v1
            words = _words(folder / name)
            counts = dict(zip(words[::2], words[1::2], strict=False))
            if counts.get("oom_kill", "").isdecimal():
                return int(counts["oom_kill"])
    return None


def shared_memory_bytes(folder: Path = Path("/dev/shm")) -> int:
    """Free bytes of /dev/shm, 0 where there is none."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _cgroup_folders(controller: str, root: Path, own_cgroup: Path) -> list[Path]:
    """Folders of this process's cgroup and its ancestors, own first, as far as they can be seen from here."""
    is_v1 = (root / controller).is_dir()
    mount = root / controller if is_v1 else root
    own = mount
    for line in _lines(own_cgroup):  # v1 "4:memory:/docker/0a1b", v2 "0::/user.slice"
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(",") if is_v1 else number == "0":
            own = mount / path.lstrip("/")
    # Inside a container the path may be the host's, and then the mount itself is this cgroup.
    if ".." in own.parts or not own.is_dir():
        own = mount
    return [own, *(parent for parent in own.parents if parent.is_relative_to(mount))]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()
