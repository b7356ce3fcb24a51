"""CPUs, memory and memory kills, read from made cgroup folders of version 1 and 2."""

import os
from pathlib import Path

import pytest

from icemaker.environment import machine

GIB = 2**30


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """A root for cgroup files."""
    return tmp_path / "cgroup"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def own(tmp_path: Path, text: str) -> Path:
    (tmp_path / "own").write_text(text)
    return tmp_path / "own"


def test_version_2_inside_a_container(cgroup: Path, tmp_path: Path) -> None:
    """The mount itself is the container's cgroup."""
    write(
        cgroup,
        {
            "memory.max": f"{GIB}\n",
            "memory.events": "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n",
            "cpu.max": "50000 100000\n",
        },
    )
    process = own(tmp_path, "0::/\n")
    assert machine.memory_limit_bytes(cgroup, process) == GIB
    assert machine.oom_kill_count(cgroup, process) == 2
    assert machine.available_cpus(cgroup, process) == 1


def test_version_1_inside_a_container_whose_path_is_the_hosts(cgroup: Path, tmp_path: Path) -> None:
    """The path in /proc does not exist inside the container, so the mount is taken."""
    write(
        cgroup,
        {
            "memory/memory.limit_in_bytes": f"{GIB}\n",
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
            "cpu/cpu.cfs_quota_us": "100000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    process = own(tmp_path, "4:memory:/docker/0a1b\n2:cpu,cpuacct:/docker/0a1b\n0::/\n")
    assert machine.memory_limit_bytes(cgroup, process) == GIB
    assert machine.oom_kill_count(cgroup, process) == 5
    assert machine.available_cpus(cgroup, process) == 1


def test_the_smallest_limit_of_the_ancestors_counts(cgroup: Path, tmp_path: Path) -> None:
    """Out of a container a service's limit holds for what runs below it; kills are counted in the own cgroup."""
    write(
        cgroup,
        {
            "user.slice/memory.max": f"{GIB}\n",
            "user.slice/memory.events": "oom_kill 9\n",
            "user.slice/job/memory.max": "max\n",
            "user.slice/job/memory.events": "oom_kill 1\n",
            "user.slice/job/cpu.max": "max 100000\n",
        },
    )
    process = own(tmp_path, "0::/user.slice/job\n")
    assert machine.memory_limit_bytes(cgroup, process) == GIB
    assert machine.oom_kill_count(cgroup, process) == 1
    assert machine.available_cpus(cgroup, process) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("text", ["9223372036854771712", "max", "-1", "garbage", ""])
def test_no_limit_is_the_machines_memory(cgroup: Path, tmp_path: Path, text: str) -> None:
    """What is no number below the usual means no limit."""
    write(cgroup, {"memory/memory.limit_in_bytes": text})
    write(cgroup, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"})
    process = own(tmp_path, "4:memory:/\n")
    assert machine.memory_limit_bytes(cgroup, process) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.available_cpus(cgroup, process) == len(os.sched_getaffinity(0))
    assert machine.oom_kill_count(cgroup, process) is None


def test_without_any_cgroup_nothing_is_known_of_kills(tmp_path: Path) -> None:
    """The count is None, never 0, when no counter is there."""
    assert machine.oom_kill_count(tmp_path / "no", tmp_path / "none") is None
    assert machine.available_cpus(tmp_path / "no", tmp_path / "none") >= 1


def test_a_path_outside_the_mount_is_not_followed(cgroup: Path, tmp_path: Path) -> None:
    """A process of another namespace sees /../x as its path."""
    write(cgroup, {"memory.max": f"{GIB}\n"})
    assert machine.memory_limit_bytes(cgroup, own(tmp_path, "0::/../other\n")) == GIB


def test_shared_memory_is_what_the_file_system_has_free(tmp_path: Path) -> None:
    """Free bytes as statvfs tells, 0 where there is no such folder."""
    status = os.statvfs(tmp_path)
    assert abs(machine.shared_memory_bytes(tmp_path) - status.f_bavail * status.f_frsize) < 2**28
    assert machine.shared_memory_bytes(tmp_path / "none") == 0
