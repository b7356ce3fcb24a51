"""What the training image is made of, seen from outside and from a program inside it. Nothing trains here."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from containers import REPOSITORY, docker

MOST_ADDED_BYTES = 6.4e9


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    return found


def inside(image: str, script: str) -> str:
    """Run a bash script in the image; `train` executes a first word that it does not know."""
    return docker("run", "--rm", "--network", "none", image, "bash", "-c", script)


def normalise(name: str) -> str:
    """One spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_entry_point_is_in_exec_form(config: dict[str, Any]) -> None:
    """Contract items 2 and 8: no shell between the platform's signals and `train`, and no argument needed."""
    assert config["Entrypoint"] == ["/opt/icemaker/train"]
    assert not config.get("Cmd")


def test_user_is_root(config: dict[str, Any]) -> None:
    """Contract item 11: only root can read input/config on the platform."""
    assert config.get("User", "") in ("", "0", "root")


def test_environment_is_set_for_logs_and_text(config: dict[str, Any]) -> None:
    """Contract item 97."""
    variables = dict(line.split("=", 1) for line in config["Env"])
    assert variables["PYTHONUNBUFFERED"] == "1"
    assert variables["LANG"] == "C.UTF-8"


def test_labels_name_version_and_commit(config: dict[str, Any]) -> None:
    """An image says what it was built from."""
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    version = re.search(r'__version__ = "(.*)"', (REPOSITORY / "container/icemaker/__init__.py").read_text())
    assert version is not None
    assert labels["version"] == version[1]
    assert re.fullmatch(r"([0-9a-f]{40}|unknown)(-dirty)?", labels["revision"])
    assert labels["licenses"] == "Apache-2.0"


def test_unknown_first_argument_is_executed(image: str) -> None:
    """Contract item 9: the SDK's local mode runs chmod and rm in the image."""
    assert "GNU coreutils" in docker("run", "--rm", image, "chmod", "--version")


def test_shell_and_python_are_on_the_path(image: str) -> None:
    """Contract items 1 and 10: bash, python3, pip3 and train are found by name."""
    lines = inside(
        image, "command -v bash python3 pip3 train && pip3 --version && readlink --canonicalize /opt/ml/code"
    )
    assert lines.splitlines()[:4] == [
        "/usr/bin/bash",
        "/opt/venv/bin/python3",
        "/opt/venv/bin/pip3",
        "/usr/local/bin/train",
    ]
    assert lines.splitlines()[-1] == "/opt/icemaker/container"


def test_no_driver_cache_key_or_history_is_inside(image: str) -> None:
    """Contract items 96 and 98: no libcuda but CUDA's compatibility library; no secret, .git, pip cache or weights."""
    find = (
        r"find / -xdev \( -path /proc -o -path /sys \) -prune -o \( -name 'libcuda.so*' -o -name '.git'"
        r" -o -name '*.pth.tar' -o -name '*.safetensors' -o -name 'id_rsa*' -o -name '.netrc' -o -name 'pip.conf'"
        r" -o -name '.aws' -o -name '.docker' -o -path '*/.cache/*' -o -path '/var/lib/apt/lists/*_Packages*' \) -print"
    )
    found = [line for line in inside(image, find).splitlines() if "/compat/" not in line]
    assert found == []
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert not re.search(r"(?i)(secret|password|token|access_key)[a-z_]*=", history)


def test_no_build_tool_is_inside(image: str) -> None:
    """The last stage installs Python and what the lock names, no compiler."""
    assert inside(image, "command -v gcc cc make git curl || true") == ""


def test_licences_of_all_packages_are_inside(image: str) -> None:
    """The index names each package that pip sees; our own licence and notice lie beside it."""
    texts = inside(image, "cd /opt/icemaker && cat licenses/INDEX.tsv && ls LICENSE NOTICE licenses/torch-*")
    index = {normalise(line.split("\t")[0]) for line in texts.splitlines() if line.count("\t") == 3}
    installed = json.loads(inside(image, "pip3 list --format json --disable-pip-version-check"))
    names = {normalise(package["name"]) for package in installed}
    assert names <= index
    assert len(names) > 80
    assert "LICENSE\nNOTICE" in texts


def test_lock_is_what_is_installed(image: str) -> None:
    """Nothing but the lock's packages, at the lock's versions."""
    lock = (REPOSITORY / "docker/requirements/training.txt").read_text()
    # A package may stand in the lock twice, for an older and a newer Python.
    wanted = {(normalise(name), version) for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)}
    installed = json.loads(inside(image, "pip3 list --format json --disable-pip-version-check"))
    found = {(normalise(package["name"]), package["version"]) for package in installed}
    assert {name for name, _ in found - wanted} <= {"pip", "setuptools"}  # the environment's own, of the base's Python
    assert {"torch", "torchvision", "pytorch-lightning", "icevision", "safetensors"} <= {name for name, _ in found}


def test_size_on_top_of_the_base(image: str) -> None:
    """At most 6.4 GB are added to the base."""
    layers = docker("history", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image).splitlines()
    # Newest first; our last stage begins with its SHELL.
    ours = layers[: next(i for i, layer in enumerate(layers) if " SHELL " in layer)]
    assert 1e9 < sum(int(layer.split()[0]) for layer in ours) <= MOST_ADDED_BYTES
