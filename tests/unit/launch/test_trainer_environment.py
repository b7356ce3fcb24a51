"""The variables that the trainer starts with."""

import json
import re
from pathlib import Path

import pytest

from icemaker import environment
from icemaker.environment import Environment, variables
from icemaker.launch.trainer_environment import sagemaker_variables, trainer_environment

CONTAINER = Path(__file__).parents[3] / "container"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An /opt/ml with two channels."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "ml"))
    monkeypatch.setenv("ICEMAKER_SCRATCH_DIR", str(tmp_path))
    (tmp_path / "ml/input/config").mkdir(parents=True)
    (tmp_path / "ml/input/data/train-1.a").mkdir(parents=True)
    (tmp_path / "ml/input/data/validation").mkdir()
    return tmp_path / "ml"


def read(base: Path, **hyperparameters: object) -> Environment:
    (base / "input/config/hyperparameters.json").write_text(json.dumps(hyperparameters))
    return environment.read()


def build(
    env: Environment, inherited: dict[str, str] | None = None, *, num_gpus: int = 0, compat: bool = False
) -> dict[str, str]:
    return trainer_environment(env, inherited or {}, num_gpus=num_gpus, num_cpus=3, is_compat_needed=compat)


def test_what_torch_reads_at_its_import_is_set(base: Path) -> None:
    """Threads, caches and offline mode have a value before Python imports torch."""
    values = build(read(base))
    assert values["OMP_NUM_THREADS"] == "3"
    assert values["OMP_WAIT_POLICY"] == "PASSIVE"
    assert values["HF_HUB_OFFLINE"] == "1"
    assert values["PYTHONPATH"] == str(CONTAINER)
    assert "LD_LIBRARY_PATH" not in values
    for name in ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        assert values[name].startswith(f"{base.parent}/cache")


def test_what_the_job_has_set_is_left_alone(base: Path) -> None:
    """A variable of the job's Environment wins over ours."""
    values = build(
        read(base), {"OMP_NUM_THREADS": "1", "TORCH_HOME": "/opt/ml/x", "PYTHONPATH": "/mine", "KEPT": "yes"}
    )
    assert values["OMP_NUM_THREADS"] == "1"
    assert values["TORCH_HOME"] == "/opt/ml/x"
    assert values["KEPT"] == "yes"
    assert values["PYTHONPATH"] == f"{CONTAINER}:/mine"


def test_with_a_gpu_threads_do_not_sleep_and_compat_comes_first(base: Path) -> None:
    """LD_LIBRARY_PATH names the compatibility library only where it is needed."""
    values = build(read(base), {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib"}, num_gpus=1, compat=True)
    assert "OMP_WAIT_POLICY" not in values
    assert values["LD_LIBRARY_PATH"] == "/usr/local/cuda/compat:/usr/local/nvidia/lib"
    assert build(read(base), {"LD_LIBRARY_PATH": "/x"}, num_gpus=1)["LD_LIBRARY_PATH"] == "/x"


@pytest.mark.parametrize("text", ["true", "True", '"true"', "1", True])
def test_downloads_are_possible_where_they_are_allowed(base: Path, text: object) -> None:
    """allow_download in any dialect leaves HF_HUB_OFFLINE unset."""
    assert "HF_HUB_OFFLINE" not in build(read(base, allow_download=text))


@pytest.mark.parametrize("text", ["false", "False", "", "null"])
def test_downloads_are_off_otherwise(base: Path, text: str) -> None:
    """Network isolation is the default."""
    assert build(read(base, allow_download=text))["HF_HUB_OFFLINE"] == "1"


def test_sm_variables_are_those_of_the_toolkit_with_shell_names(base: Path) -> None:
    """SM_*: upper case, every other character an underscore; what is not text is compact JSON."""
    (base / "input/config/resourceconfig.json").write_text(
        '{"hosts": ["algo-1"], "current_host": "algo-1", "network_interface_name": "eth0"}'
    )
    env = read(base, **{"batch-size": "16", "model.type": '"adam"', "freeze": "true", "steps": "[1, 2]", "text": "a b"})
    values = sagemaker_variables(env, num_gpus=2, num_cpus=3)
    assert values["SM_MODEL_DIR"] == str(base / "model")
    assert values["SM_OUTPUT_DIR"] == str(base / "output")
    assert values["SM_OUTPUT_DATA_DIR"] == str(base / "output/data")
    assert values["SM_INPUT_DIR"] == str(base / "input")
    assert values["SM_INPUT_CONFIG_DIR"] == str(base / "input/config")
    assert values["SM_CHANNELS"] == '["train-1.a","validation"]'
    assert values["SM_CHANNEL_TRAIN_1_A"] == str(base / "input/data/train-1.a")
    assert values["SM_HP_BATCH_SIZE"] == "16"
    assert values["SM_HP_MODEL_TYPE"] == "adam"
    assert values["SM_HP_FREEZE"] == "true"
    assert values["SM_HP_STEPS"] == "[1,2]"
    assert values["SM_HP_TEXT"] == "a b"
    assert json.loads(values["SM_HPS"]) == {
        "batch-size": 16,
        "model.type": "adam",
        "freeze": True,
        "steps": [1, 2],
        "text": "a b",
    }
    assert values["SM_HOSTS"] == '["algo-1"]'
    assert values["SM_CURRENT_HOST"] == "algo-1"
    assert values["SM_NUM_GPUS"] == "2"
    assert values["SM_NUM_CPUS"] == "3"
    assert values["SM_NETWORK_INTERFACE_NAME"] == "eth0"
    assert json.loads(values["SM_RESOURCE_CONFIG"])["hosts"] == ["algo-1"]
    assert all(re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) for name in values)


def test_values_that_no_variable_can_hold_are_left_out(base: Path) -> None:
    """Null characters, lone surrogates and values beyond 128 KiB would prevent the trainer's start."""
    values = sagemaker_variables(
        read(base, null="a\0b", half="\ud800", long="x" * 200_000, good="1"), num_gpus=0, num_cpus=1
    )
    assert "SM_HP_GOOD" in values
    assert not {"SM_HP_NULL", "SM_HP_HALF", "SM_HP_LONG", "SM_HPS"} & set(values)


def test_very_many_hyperparameters_are_left_out_together(base: Path) -> None:
    """The system also limits the sum of all variables."""
    env = read(base, **{f"a{number}": "x" * 100_000 for number in range(6)})
    assert not any(name.startswith("SM_HP") for name in sagemaker_variables(env, num_gpus=0, num_cpus=1))


def test_every_variable_that_is_set_stands_in_the_table(base: Path) -> None:
    """docs/environment.md leaves none out."""
    known = {variable.name for variable in (*variables.SET_FOR_TRAINER, *variables.ALWAYS_SET_FOR_TRAINER)}
    for name in build(read(base, seed="1"), compat=True):
        pattern = re.sub(r"^(SM_HP|SM_CHANNEL)_.*", r"\1_<NAME>", name)
        assert name in known or pattern in known
