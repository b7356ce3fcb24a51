"""Every environment variable of ours: its name, its default and its meaning, in one table.

docs/environment.md is written from it, as that page says. Reads no variable itself.
"""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One row of the table; `default` is what Icemaker takes where the variable is not set."""

    name: str
    default: str
    meaning: str


READ = (
    Variable(
        "SAGEMAKER_BASE_DIR",
        "/opt/ml",
        "The folder that holds input, model, output and checkpoints. A laptop or a test points it elsewhere; "
        "a path below /opt/ml in a configuration file then means the same place below this folder.",
    ),
    Variable("ICEMAKER_COMMIT", "", "The git commit an image was built from, set in it; goes to model.json."),
    Variable("TRAINING_JOB_NAME", "", "The job's name, set by SageMaker; shown in the log."),
    Variable(
        "ICEMAKER_STOP_GRACE_SECONDS",
        "100",
        "Seconds that the trainer has, after a stop request (SIGTERM or SIGINT), to save and end by itself. Then it "
        "gets SIGTERM, and SIGKILL 5 seconds later. SageMaker kills the container 120 seconds after its SIGTERM.",
    ),
    Variable("TMPDIR", "/tmp", "Where the scratch folder is made; it needs room for caches."),
    Variable("CUDA_VISIBLE_DEVICES", "", "Which GPUs to use, as CUDA means it; empty or -1 when set: none."),
    Variable("NVIDIA_VISIBLE_DEVICES", "", "Set by the container runtime; none or void: no GPU."),
)

HANDED_DOWN = (
    Variable("ICEMAKER_SCRATCH_DIR", "", "The scratch folder of this run. Removed when the run ends."),
    Variable("ICEMAKER_STOP_FILE", "", "The trainer stops at its next step once a file of this name exists."),
)

# The default is what `train` sets where the variable is not set already.
SET_FOR_TRAINER = (
    Variable("CUBLAS_WORKSPACE_CONFIG", ":4096:8", "Lets cuBLAS repeat its results."),
    Variable("HF_HOME", "<scratch>/cache/huggingface", "Cache of Hugging Face libraries."),
    Variable("HF_HUB_OFFLINE", "1", "No download; left unset where hyperparameter allow_download is true."),
    Variable("MPLBACKEND", "Agg", "Matplotlib draws to files only."),
    Variable("MPLCONFIGDIR", "<scratch>/cache/matplotlib", "Cache of matplotlib."),
    Variable("NO_ALBUMENTATIONS_UPDATE", "1", "Albumentations asks the network for nothing."),
    Variable("OMP_NUM_THREADS", "<CPUs of the container>", "Threads of torch's CPU operations."),
    Variable("OMP_WAIT_POLICY", "PASSIVE", "Only where there is no GPU: waiting threads sleep."),
    Variable("PYTHONHASHSEED", "0", "Sets of strings have the same order in every run."),
    Variable("PYTHONUNBUFFERED", "1", "Log lines appear at once."),
    Variable("TORCH_HOME", "<scratch>/cache/torch", "Cache of torch."),
    Variable("XDG_CACHE_HOME", "<scratch>/cache", "Cache of everything else."),
)

ALWAYS_SET_FOR_TRAINER = (
    Variable(
        "LD_LIBRARY_PATH",
        "",
        "/usr/local/cuda/compat goes in front where the GPU driver is older than the compatibility library there.",
    ),
    Variable("PYTHONPATH", "", "The folder of the package icemaker goes in front."),
    Variable("SM_CHANNEL_<NAME>", "", "Folder of a channel; every character that a shell name refuses is `_`."),
    Variable("SM_CHANNELS", "", "JSON list of the channels' names."),
    Variable("SM_CURRENT_HOST", "", "Name of this host."),
    Variable("SM_HOSTS", "", "JSON list of the hosts' names, sorted."),
    Variable("SM_HP_<NAME>", "", "Value of a hyperparameter; what is not text is compact JSON."),
    Variable("SM_HPS", "", "JSON object of the hyperparameters."),
    Variable("SM_INPUT_CONFIG_DIR", "", "Folder of the configuration files."),
    Variable("SM_INPUT_DATA_CONFIG", "", "JSON of inputdataconfig.json."),
    Variable("SM_INPUT_DIR", "", "Folder of input/config and input/data."),
    Variable("SM_MODEL_DIR", "", "Folder of the model artifact."),
    Variable("SM_NETWORK_INTERFACE_NAME", "", "Network interface between hosts; absent where none is named."),
    Variable("SM_NUM_CPUS", "", "CPUs that this container may use."),
    Variable("SM_NUM_GPUS", "", "GPUs that this container may use."),
    Variable("SM_OUTPUT_DATA_DIR", "", "Folder that becomes output.tar.gz."),
    Variable("SM_OUTPUT_DIR", "", "Folder of the failure file and of output data."),
    Variable("SM_RESOURCE_CONFIG", "", "JSON of resourceconfig.json."),
)


def markdown() -> str:
    """The text of docs/environment.md."""
    lines = [
        "# Environment variables",
        "",
        "Written from the table in `container/icemaker/environment/variables.py` by",
        "`PYTHONPATH=container python container/icemaker/environment/variables.py > docs/environment.md`;",
        "edit the table, not this page.",
        "",
        "## Read by Icemaker",
        "",
        *_rows(READ),
        "## Handed from `train` to the trainer, not to be set by hand",
        "",
        *_rows(HANDED_DOWN),
        "## Set for the trainer where they are not set already",
        "",
        *_rows(SET_FOR_TRAINER),
        "## Always set for the trainer",
        "",
        *_rows(ALWAYS_SET_FOR_TRAINER),
        "A variable whose value is longer than the system takes (128 KiB) is left out, and where the hyperparameters",
        "are more than 512 KiB together, every `SM_HP` variable is.",
    ]
    return "\n".join(lines) + "\n"


def _rows(variables: tuple[Variable, ...]) -> list[str]:
    cells = [(f"`{v.name}`", f"`{v.default}`" if v.default else "", v.meaning) for v in variables]
    return ["| variable | default | meaning |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in cells), ""]


if __name__ == "__main__":
    sys.stdout.write(markdown())
