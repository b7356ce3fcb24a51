"""GPUs and drivers, found in made folders; the rule for the CUDA compatibility library."""

import re
from pathlib import Path

import pytest

from icemaker.environment import accelerator

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("driver", "compat", "expected"),
    [
        ("470.57", "535.183.01", True),
        ("470.57.02", "580.65.06", True),
        ("535.54.03", "535.183.01", True),
        ("580.65.06", "580.65.06", False),
        ("580.65", "580.65.00", False),
        ("580.95.05", "580.65.06", False),
        ("1000.1", "580.65.06", False),
        ("", "580.65.06", False),
        (None, "580.65.06", False),
        ("470.57", None, False),
        (None, None, False),
    ],
)
def test_compat_is_used_by_an_older_driver_only(driver: str | None, compat: str | None, expected: bool) -> None:
    """cuda-compat: older, equal, newer and unknown drivers; versions compare as numbers."""
    assert accelerator.needs_compat(driver, compat) is expected


@pytest.mark.parametrize(
    ("driver", "compat", "is_problem"),
    [
        ("580.95.05", None, False),
        ("590.1", "580.65.06", False),
        ("550.54.15", "580.65.06", False),
        ("550.54.15", None, True),
        ("550.54.15", "535.183.01", True),
        ("470.57.02", "580.65.06", True),
        (None, None, False),
        ("", None, False),
    ],
)
def test_a_driver_too_old_is_a_problem(driver: str | None, compat: str | None, is_problem: bool) -> None:
    """A mismatch of CUDA and driver is told with both versions."""
    problem = accelerator.driver_problem(driver, compat)
    assert (problem is not None) is is_problem
    if problem is not None:
        assert f"version {driver}" in problem
        assert "CUDA 13.0" in problem
        assert "580" in problem
        assert "\n" not in problem


def test_the_cuda_version_is_that_of_the_lock() -> None:
    """The driver that is asked for fits the CUDA that torch is locked with."""
    lock = (ROOT / "docker/requirements/training.txt").read_text()
    found = re.search(r"^cuda-toolkit==(\d+\.\d+)", lock, re.MULTILINE)
    assert found is not None
    assert found.group(1) == accelerator.CUDA_VERSION


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
            "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n",
            "535.183.01",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)\n",
            "580.95.05",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57  Tue\n", "470.57"),
        ("", None),
        ("something else\nGCC version: 110.2.1\n", None),
    ],
)
def test_driver_version_is_read_from_the_kernels_file(tmp_path: Path, text: str, version: str | None) -> None:
    """Both kernel modules name it in their first line."""
    (tmp_path / "version").write_text(text)
    assert accelerator.driver_version(tmp_path / "version") == version


def test_without_a_kernel_file_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's first line is the version; without the program nothing is known."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert accelerator.driver_version(tmp_path / "none") is None
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 550.54.15\necho 550.54.15\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert accelerator.driver_version(tmp_path / "none") == "550.54.15"
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed 550.54.15'\nexit 9\n")
    assert accelerator.driver_version(tmp_path / "none") is None


def test_compat_version_is_that_of_the_file_behind_the_link(tmp_path: Path) -> None:
    """libcuda.so.1 -> libcuda.so.580.65.06; no link or no file: none."""
    assert accelerator.compat_version(tmp_path) is None
    (tmp_path / "libcuda.so.1").symlink_to("libcuda.so.580.65.06")
    assert accelerator.compat_version(tmp_path) is None
    (tmp_path / "libcuda.so.580.65.06").write_text("")
    assert accelerator.compat_version(tmp_path) == "580.65.06"


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (None, "/compat"),
        ("", "/compat"),
        ("/usr/local/nvidia/lib:/usr/local/nvidia/lib64", "/compat:/usr/local/nvidia/lib:/usr/local/nvidia/lib64"),
        ("/a:/compat", "/compat:/a"),
    ],
)
def test_the_compatibility_folder_comes_first_and_once(current: str | None, expected: str) -> None:
    """No empty part is made: that would mean the current folder."""
    assert accelerator.library_path(current, Path("/compat")) == expected


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({}, 2),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, 2),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, 0),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, 0),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "1"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "1, 0"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "0,7,1"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937-d72c"}, 1),
    ],
)
def test_gpus_are_the_device_files_that_cuda_may_see(tmp_path: Path, variables: dict[str, str], count: int) -> None:
    """nvidia0 and nvidia1 count, their control files do not; CUDA stops at the first invalid choice."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-modeset"):
        (tmp_path / name).write_text("")
    assert accelerator.count_gpus(variables, tmp_path) == count


def test_a_machine_without_device_files_has_no_gpu(tmp_path: Path) -> None:
    """Base images set NVIDIA_VISIBLE_DEVICES=all on CPU hosts too."""
    assert accelerator.count_gpus({"NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "GPU-1"}, tmp_path) == 0
