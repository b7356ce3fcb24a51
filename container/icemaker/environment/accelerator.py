"""The GPUs and their driver, found without torch, and whether the two fit the CUDA of this image's torch.

Knows nothing of training. Source of the rule for the compatibility library (driver older than the library, else
never): https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

CUDA_VERSION = "13.0"  # of the locked torch
REQUIRED_DRIVER = "580"
REQUIRED_DRIVER_WITH_COMPAT = "535"  # a data-centre GPU's driver
COMPAT_DIR = Path("/usr/local/cuda/compat")


def count_gpus(variables: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """GPUs that a CUDA program started with `variables` would find, by the device files there are."""
    if variables.get("NVIDIA_VISIBLE_DEVICES") in ("none", "void"):
        return 0
    present = sum(1 for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    if present == 0 and (devices / "dxg").exists():  # Windows' Linux has one device file for all GPUs
        present = len(_nvidia_smi("--list-gpus"))
    chosen = variables.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return present
    count = 0
    for word in chosen.split(","):
        word = word.strip()
        is_valid = int(word) < present if word.isdecimal() else word.startswith(("GPU-", "MIG-")) and present > 0
        if not is_valid:  # CUDA ignores what follows the first invalid one
            break
        count += 1
    return count


def driver_version(module: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """Version of the NVIDIA driver, such as "580.95.05"; None where there is none or it does not tell."""
    try:
        text = module.read_text(encoding="ascii", errors="replace")
    except OSError:
        text = "\n".join(_nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader"))
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text.partition("\n")[0])
    return found.group() if found else None


def compat_version(folder: Path = COMPAT_DIR) -> str | None:
    """Version of the compatibility library in `folder`, told by the file it links to; None where there is none."""
    try:
        target = (folder / "libcuda.so.1").resolve(strict=True).name
    except OSError:
        return None
    found = re.fullmatch(r"libcuda\.so\.(\d+(\.\d+)+)", target)
    return found.group(1) if found else None


def is_older(version: str, other: str) -> bool:
    """Whether one dotted version is older than another: 470.57 < 535, 535.54 = 535.54.0."""
    first, second = _numbers(version), _numbers(other)
    length = max(len(first), len(second))
    return first + (0,) * (length - len(first)) < second + (0,) * (length - len(second))


def needs_compat(driver: str | None, compat: str | None) -> bool:
    """Whether programs must use the compatibility library: both are there, and the driver is the older one.

    On a driver as new or newer, an older library in front of it breaks CUDA.
    """
    return bool(driver and compat and is_older(driver, compat))


def driver_problem(driver: str | None, compat: str | None) -> str | None:
    """Why torch cannot use the GPUs with this driver, with both versions; None when it can, or nothing is known."""
    if not driver or not is_older(driver, REQUIRED_DRIVER):
        return None
    if compat and not is_older(compat, REQUIRED_DRIVER) and not is_older(driver, REQUIRED_DRIVER_WITH_COMPAT):
        return None
    return (
        f"The NVIDIA driver of this machine has version {driver}. CUDA {CUDA_VERSION} of this image needs driver "
        f"{REQUIRED_DRIVER} or newer; {REQUIRED_DRIVER_WITH_COMPAT} or newer on a data-centre GPU where the image "
        f"holds the compatibility library of CUDA {CUDA_VERSION} (here: {compat or 'none'}). "
        "Use an instance with a newer driver, or one without a GPU."
    )


def library_path(current: str | None, folder: Path = COMPAT_DIR) -> str:
    """LD_LIBRARY_PATH with the compatibility library in front, once."""
    others = [part for part in (current or "").split(":") if part and part != str(folder)]
    return ":".join([str(folder), *others])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _nvidia_smi(*arguments: str) -> list[str]:
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if program is None:
        return []
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
