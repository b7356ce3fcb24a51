"""The one door to IceVision: imported without its downloads and without its coloured log.

Knows nothing of training. Import `models` from here, never from IceVision itself.
"""

import os
import shutil
import warnings
from pathlib import Path

import matplotlib
from loguru import logger as loguru_logger

from icemaker import environment

with environment.scratch_home() as _home, warnings.catch_warnings():
    warnings.simplefilter("ignore")
    # At import IceVision fetches a font into ~/.icevision unless a file of that name is there.
    # To be dropped with airctic/icevision visualize/utils.py:58.
    _font = Path(_home) / ".icevision/fonts/SpaceGrotesk-Medium.ttf"
    if not _font.exists():
        _font.parent.mkdir(parents=True, exist_ok=True)
        _new = _font.with_name(f".{os.getpid()}")
        shutil.copyfile(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", _new)
        _new.rename(_font)
    from icevision import models

# Its import sets up a coloured log on standard error, whoever listens.
loguru_logger.remove()

__all__ = ["models"]
