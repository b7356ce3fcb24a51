"""The shell scripts: what they run, and what they refuse. AWS and Docker are stand-in programs on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "the-secret-token"  # noqa: S105  a made one

AWS = f"""#!/bin/bash
echo "aws $*" >> "$CALLS"
case "$*" in
  *get-caller-identity*) echo 123456789012 ;;
  *describe-repositories*) echo "An error occurred (${{LOOKUP_ERROR:-RepositoryNotFoundException}})" >&2; exit 254 ;;
  *get-login-password*) echo {TOKEN} ;;
esac
"""
DOCKER = """#!/bin/bash
echo "docker $*" >> "$CALLS"
case "$*" in
  "build --help") echo "$BUILD_OPTIONS" ;;
  login*) cat > "$CALLS.stdin" ;;
esac
"""


class Checkout:
    """A committed copy of what the scripts need, with stand-ins for aws and docker first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.calls_file = folder / "calls"
        self.root.mkdir()
        for name in (
            "build_and_push.sh",
            "docker/build.sh",
            "docker/training/Dockerfile",
            "container/icemaker/__init__.py",
        ):
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target)
        self.git("init", "--quiet")
        self.git("add", ".")
        self.git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", "all")
        programs = folder / "bin"
        programs.mkdir()
        for name, text in (("aws", AWS), ("docker", DOCKER)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.path = f"{programs}:/usr/bin:/bin"

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    def run(
        self, *arguments: str, script: str = "build_and_push.sh", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": self.path, "HOME": str(self.root), "CALLS": str(self.calls_file), **variables}
        return subprocess.run(
            [str(self.root / script), *arguments], env=environment, capture_output=True, text=True, check=False
        )

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "ACCOUNT.dkr.ecr.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "ACCOUNT.dkr.ecr.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "ACCOUNT.dkr.ecr.cn-north-1.amazonaws.com.cn"),
        ("cn-northwest-1", "ACCOUNT.dkr.ecr.cn-northwest-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "ACCOUNT.dkr.ecr.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_registry_host_follows_the_partition_of_the_region(checkout: Checkout, region: str, host: str) -> None:
    """Contract item 93: China and the European sovereign cloud have suffixes of their own."""
    done = checkout.run("--dry-run", "--region", region, "training", "v1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"docker push {host}/sagemaker-icemaker-training:v1"


def test_dry_run_prints_every_command_and_runs_none(checkout: Checkout) -> None:
    """A dry run needs neither credentials nor Docker: nothing of either is started."""
    done = checkout.run("--dry-run", "training", BASE_IMAGE="local/base:1", BUILD_NETWORK="host")
    assert done.returncode == 0, done.stderr
    build, lookup, create, login, push = done.stdout.splitlines()
    assert "docker build --file docker/training/Dockerfile --platform linux/amd64" in build
    assert "--build-arg BASE_IMAGE=local/base:1 --network host" in build
    assert lookup.startswith("aws ecr describe-repositories --region REGION")
    assert create.startswith("aws ecr create-repository --region REGION")
    assert login.startswith("aws ecr get-login-password") and "--password-stdin ACCOUNT.dkr.ecr.REGION" in login
    assert push.startswith("docker push ACCOUNT.dkr.ecr.REGION.amazonaws.com/sagemaker-icemaker-training:")
    assert [call for call in checkout.calls() if call != "aws configure get region"] == []


def test_tag_is_version_and_commit(checkout: Checkout) -> None:
    """Without a TAG the image is named by what it is made of."""
    version = checkout.run("--version", script="docker/build.sh").stdout.strip()
    assert version.endswith("-" + checkout.git("rev-parse", "HEAD")[:7])
    assert checkout.run("--dry-run", "training").stdout.strip().endswith(f":{version}")


@pytest.mark.parametrize("image", ["serving", "processing", "all", ""])
def test_unknown_image_is_refused_with_the_list(checkout: Checkout, image: str) -> None:
    """An image that is not there is refused by name, before anything runs."""
    done = checkout.run("--dry-run", *([image] if image else []))
    assert done.returncode == 2
    assert f"There is no image '{image}'. There is now: training" in done.stderr


def test_dirty_tree_is_refused(checkout: Checkout) -> None:
    """A tag names a commit, so what is pushed is exactly that; a dry run only warns."""
    (checkout.root / "new.txt").write_text("")
    done = checkout.run("--region", "eu-west-1", "training")
    assert done.returncode == 2
    assert "Commit first" in done.stderr
    assert checkout.calls() == []
    assert "warning" in checkout.run("--dry-run", "training").stderr


def test_push_builds_makes_the_repository_logs_in_and_pushes(checkout: Checkout) -> None:
    """The commands in their order; the token reaches docker by its standard input alone."""
    done = checkout.run("--region", "cn-north-1", "training", "v1", BUILD_OPTIONS="--provenance string")
    assert done.returncode == 0, done.stderr
    calls = checkout.calls()
    host = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"
    build = next(call for call in calls if call.startswith("docker build --file"))
    assert f"--tag {host}/sagemaker-icemaker-training:v1 --provenance=false ." in build
    assert f"GIT_COMMIT={checkout.git('rev-parse', 'HEAD')} " in build
    assert calls.index(build) < calls.index(f"docker login --username AWS --password-stdin {host}")
    assert any(call.startswith("aws ecr create-repository --region cn-north-1") for call in calls)
    assert calls[-1] == f"docker push {host}/sagemaker-icemaker-training:v1"
    assert Path(f"{checkout.calls_file}.stdin").read_text().strip() == TOKEN
    assert TOKEN not in done.stdout + done.stderr + "".join(calls)


def test_client_without_provenance_is_not_given_it(checkout: Checkout) -> None:
    """Docker before buildx has no --provenance, and makes no OCI index either."""
    checkout.run("--region", "eu-west-1", "training", "v1", BUILD_OPTIONS="--tag list")
    assert not any("--provenance" in call for call in checkout.calls())


def test_denied_lookup_stops_the_push(checkout: Checkout) -> None:
    """Contract item 94: only a repository that is not there is made; a denied look-up is told."""
    done = checkout.run("--region", "eu-west-1", "training", "v1", LOOKUP_ERROR="AccessDeniedException")
    assert done.returncode == 2
    assert "AccessDeniedException" in done.stderr
    assert not any("create-repository" in call or call.startswith("docker push") for call in checkout.calls())


@pytest.mark.parametrize(
    ("script", "arguments", "text"),
    [
        ("build_and_push.sh", ["--force", "training"], "Unknown option '--force'"),
        ("local_test/demo.sh", ["--gpu"], "Unknown argument '--gpu'"),
        ("local_test/train_local.sh", ["image"], "usage: "),
        ("local_test/train_local.sh", ["image", "no/such/folder"], "Folder 'no/such/folder' does not exist"),
        ("local_test/environment.sh", ["other"], "There are: dev.txt training.txt"),
    ],
)
def test_wrong_arguments_are_refused_with_the_remedy(script: str, arguments: list[str], text: str) -> None:
    """Each script says what is wrong and what would be right."""
    done = subprocess.run([str(REPOSITORY / script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert text in done.stderr


def test_demo_does_not_empty_a_folder_of_somebody_else(tmp_path: Path) -> None:
    """Only what an earlier demo made is replaced."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("precious")
    done = subprocess.run(
        [str(REPOSITORY / "local_test/demo.sh"), "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 2
    assert "holds something that no demo made" in done.stderr
    assert (tmp_path / "model" / "mine").read_text() == "precious"


def test_every_script_can_be_run() -> None:
    """A script has its run bit, says how it is used, and starts strictly."""
    scripts = [*REPOSITORY.glob("*.sh"), *REPOSITORY.glob("[dlt]*/**/*.sh"), REPOSITORY / ".ci/run"]
    assert len(scripts) >= 8
    for script in scripts:
        text = script.read_text(encoding="ascii")
        assert os.access(script, os.X_OK), script
        assert text.startswith("#!/usr/bin/env bash\n"), script
        assert "\n# usage: " in text and "\nset -Eeuo pipefail\n" in text and text.endswith('\nmain "$@"\n'), script
