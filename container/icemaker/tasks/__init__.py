"""The tasks that can be trained: a name, and the import path of its Task.

A path, so that looking at the table imports nothing. What a Task gives stands in ARCHITECTURE.md.
"""

import importlib
from typing import Any

from icemaker.errors import UserError

TASKS = {"detection": "icemaker.tasks.detection.task:DetectionTask"}


def find_task(name: str) -> Any:
    """The Task of that name.

    Raises:
        UserError: There is none.
    """
    if name not in TASKS:
        choices = ", ".join(repr(choice) for choice in TASKS)
        raise UserError(f"Hyperparameter 'task' has value {name!r}. Supported values are {choices}.")
    module, attribute = TASKS[name].split(":")
    return getattr(importlib.import_module(module), attribute)()
