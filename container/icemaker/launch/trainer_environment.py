"""The variables that the trainer's process starts with: those that torch and other libraries read when they are
imported, and the SM_* variables that SageMaker's own images give. Reads and sets no variable itself.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from icemaker.environment import Environment, accelerator, job_files, variables

_LONGEST_VARIABLE_BYTES = 128 * 1024 - 1  # Linux refuses to start a program with a longer one
_HYPERPARAMETER_BYTES = 512 * 1024


def trainer_environment(
    env: Environment, inherited: dict[str, str], *, num_gpus: int, num_cpus: int, is_compat_needed: bool
) -> dict[str, str]:
    """All variables of the trainer: `inherited`, what it lacks, and what is always set."""
    values = {variable.name: variable.default for variable in variables.SET_FOR_TRAINER}
    values["OMP_NUM_THREADS"] = str(num_cpus)
    if num_gpus > 0:
        del values["OMP_WAIT_POLICY"]
    if _is_true(env.hyperparameters.get("allow_download") or env.hyperparameters.get("allow-download")):
        del values["HF_HUB_OFFLINE"]
    values = {name: value.replace("<scratch>", str(env.scratch_dir)) for name, value in values.items()}
    values |= inherited
    values |= sagemaker_variables(env, num_gpus=num_gpus, num_cpus=num_cpus)
    values["PYTHONPATH"] = python_path(inherited)
    if is_compat_needed:
        values["LD_LIBRARY_PATH"] = accelerator.library_path(inherited.get("LD_LIBRARY_PATH"))
    return values


def python_path(inherited: dict[str, str]) -> str:
    """PYTHONPATH with the folder of this package in front."""
    return ":".join(filter(None, [str(Path(__file__).parents[2]), inherited.get("PYTHONPATH")]))


def sagemaker_variables(env: Environment, *, num_gpus: int, num_cpus: int) -> dict[str, str]:
    """The SM_* variables as SageMaker's training toolkit means them, with names that a shell can use."""
    hyperparameters = {name: _decoded(text) for name, text in env.hyperparameters.items()}
    values: dict[str, Any] = {
        "SM_CHANNELS": sorted(env.channels),
        "SM_CURRENT_HOST": env.current_host,
        "SM_HOSTS": list(env.hosts),
        "SM_INPUT_CONFIG_DIR": str(env.config_dir),
        "SM_INPUT_DATA_CONFIG": job_files.read_object(env.config_dir / "inputdataconfig.json") or {},
        "SM_INPUT_DIR": str(env.config_dir.parent),
        "SM_MODEL_DIR": str(env.model_dir),
        "SM_NUM_CPUS": num_cpus,
        "SM_NUM_GPUS": num_gpus,
        "SM_OUTPUT_DATA_DIR": str(env.output_dir / "data"),
        "SM_OUTPUT_DIR": str(env.output_dir),
        "SM_RESOURCE_CONFIG": job_files.read_object(env.config_dir / "resourceconfig.json") or {},
    }
    if env.network_interface_name is not None:
        values["SM_NETWORK_INTERFACE_NAME"] = env.network_interface_name
    values |= {_shell_name("SM_CHANNEL_", name): str(channel.path) for name, channel in env.channels.items()}
    if sum(len(text) for text in env.hyperparameters.values()) <= _HYPERPARAMETER_BYTES:
        values["SM_HPS"] = hyperparameters
        values |= {_shell_name("SM_HP_", name): value for name, value in hyperparameters.items()}
    texts = {name: value if isinstance(value, str) else _compact(value) for name, value in values.items()}
    return {name: text for name, text in texts.items() if _can_be_passed(name, text)}


def _shell_name(prefix: str, name: str) -> str:
    return prefix + re.sub(r"[^A-Z0-9_]", "_", name.upper())


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _can_be_passed(name: str, text: str) -> bool:
    try:
        return "\0" not in text and len(os.fsencode(f"{name}={text}")) < _LONGEST_VARIABLE_BYTES
    except UnicodeEncodeError:
        return False


def _is_true(text: str | None) -> bool:
    return (text or "").strip(" \"'").lower() in ("true", "1", "yes", "on")
