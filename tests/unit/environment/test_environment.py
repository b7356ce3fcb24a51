"""The SageMaker contract: what Icemaker reads of a training job, and what it says of a wrong one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from icemaker import environment
from icemaker.environment import variables
from icemaker.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /opt/ml."""
    folder = tmp_path / "ml"
    (folder / "input/config").mkdir(parents=True)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(folder))
    monkeypatch.setenv("ICEMAKER_SCRATCH_DIR", str(tmp_path / "scratch"))
    for name in ("ICEMAKER_STOP_FILE", "ICEMAKER_STOP_GRACE_SECONDS", "TRAINING_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def write_config(base: Path, name: str, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (base / "input/config" / name).write_text(text, encoding="utf-8")


def add_channel(base: Path, name: str, *files: str) -> Path:
    folder = base / "input/data" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("x")
    return folder


def test_without_any_configuration_file_there_are_defaults(base: Path) -> None:
    """A missing hyperparameters.json means defaults, and a missing resourceconfig.json means one host."""
    env = environment.read()
    assert env.hyperparameters == {}
    assert env.channels == {}
    assert env.hosts == ("algo-1",)
    assert env.current_host == "algo-1"
    assert env.network_interface_name is None
    assert env.model_dir == base / "model"
    assert env.output_data_dir == base / "output/data/algo-1"
    assert env.checkpoint_dir == base / "checkpoints"
    assert env.tensorboard_dir == base / "output/tensorboard"


def test_base_dir_is_opt_ml_unless_said_otherwise(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's folder is the default, also for an empty variable."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", "")
    assert environment.read().base_dir == Path("/opt/ml")
    monkeypatch.delenv("SAGEMAKER_BASE_DIR")
    assert environment.read().base_dir == Path("/opt/ml")


def test_a_relative_base_dir_is_below_the_current_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop user may write demo; every path is absolute all the same."""
    monkeypatch.chdir(base.parent)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", "ml")
    assert environment.read().model_dir == base / "model"


def test_hyperparameters_stay_text_and_the_platforms_own_are_left_out(base: Path) -> None:
    """sagemaker_*, _tuning_objective_metric and mp_parameters are ignored; all other names are kept as they are."""
    write_config(
        base,
        "hyperparameters.json",
        {
            "batch_size": '"256"',
            "model-type": "efficientdet",
            "sagemaker_program": "x.py",
            "sagemaker_region": "eu-west-1",
            "_tuning_objective_metric": "map",
            "mp_parameters": "{}",
            "default_user_module_name": "x",
        },
    )
    assert environment.read().hyperparameters == {"batch_size": '"256"', "model-type": "efficientdet"}


def test_hyperparameters_that_are_not_strings_become_their_json_text(base: Path) -> None:
    """A person on a laptop writes numbers, booleans, null and lists."""
    write_config(base, "hyperparameters.json", {"a": 1, "b": 0.5, "c": True, "d": None, "e": [1, "x"], "f": ""})
    expected = {"a": "1", "b": "0.5", "c": "true", "d": "null", "e": '[1, "x"]', "f": ""}
    assert environment.read().hyperparameters == expected


def test_a_byte_order_mark_is_accepted(base: Path) -> None:
    """Some editors begin a file with one."""
    (base / "input/config/hyperparameters.json").write_bytes(b'\xef\xbb\xbf{"seed": "1"}')
    assert environment.read().hyperparameters == {"seed": "1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"hyperparameters\.json is not valid JSON: .*line 1, column 2"),
        ("", r"not valid JSON"),
        ("[1]", r"the file holds a list\. It must hold one JSON object\."),
        ('"secret-token"', r"the file holds a string"),
        ("[" * 100_000, r"nests too deep"),
        ('{"a": ' + "1" * 5000 + "}", r"a number too long"),
    ],
)
def test_a_malformed_file_is_refused_by_name(base: Path, content: str, message: str) -> None:
    """The message names the file, what is wrong and what is expected, and shows no value."""
    write_config(base, "hyperparameters.json", content)
    with pytest.raises(UserError, match=message) as caught:
        environment.read()
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_utf8_is_refused(base: Path) -> None:
    """The message names the encoding that is expected."""
    (base / "input/config/hyperparameters.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match="is not UTF-8 text"):
        environment.read()


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(base: Path) -> None:
    """A sparse file of 1 TB costs no memory."""
    with (base / "input/config/hyperparameters.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"has 1099511627776 bytes\. At most 4194304 are read"):
        environment.read()


def test_a_fifo_in_place_of_a_file_does_not_hang(base: Path) -> None:
    """Only a regular file is opened."""
    os.mkfifo(base / "input/config/hyperparameters.json")
    with pytest.raises(UserError, match="is not a regular file"):
        environment.read()


def test_channels_come_from_the_declaration_and_not_from_the_folders(base: Path) -> None:
    """Extra files and folders in input/data, such as train-manifest, are ignored; only TrainingInputMode is usual."""
    write_config(
        base,
        "inputdataconfig.json",
        {
            "train": {
                "TrainingInputMode": "File",
                "S3DistributionType": "ShardedByS3Key",
                "RecordWrapperType": "None",
                "ContentType": "application/x-image",
            },
            "validation": {"TrainingInputMode": "File"},
            "empty": {},
            "code": {"TrainingInputMode": "File"},
            "sm_drivers": {},
        },
    )
    add_channel(base, "undeclared", "a.jpg")
    (base / "input/data/train-manifest").write_text("[]")
    channels = environment.read().channels
    assert set(channels) == {"train", "validation", "empty"}
    assert channels["train"].distribution == "ShardedByS3Key"
    assert channels["train"].content_type == "application/x-image"
    assert channels["validation"].distribution == "FullyReplicated"
    assert channels["empty"].input_mode == "File"
    assert channels["train"].path == base / "input/data/train"


def test_without_a_declaration_channels_are_the_folders_there_are(base: Path) -> None:
    """A laptop needs no inputdataconfig.json."""
    add_channel(base, "train", "a.jpg")
    add_channel(base, "code", "x.py")
    add_channel(base, ".hidden", "x")
    (base / "input/data/train-manifest").write_text("[]")
    assert list(environment.read().channels) == ["train"]


def test_an_empty_declaration_means_no_channels(base: Path) -> None:
    """The job without channels has {} there."""
    write_config(base, "inputdataconfig.json", {})
    add_channel(base, "train", "a.jpg")
    assert environment.read().channels == {}


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "x" * 65, "tr ain"])
def test_a_channel_name_that_could_leave_the_folder_is_refused(base: Path, name: str) -> None:
    """Names become paths, so only the platform's own characters are taken."""
    write_config(base, "inputdataconfig.json", {name: {}})
    with pytest.raises(UserError, match="declares channel"):
        environment.read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": []}, r"inputdataconfig\.json: channel 'train' holds a list\. It must hold an object\."),
        ({"train": {"TrainingInputMode": 1}}, r"key 'TrainingInputMode' holds a number\. It must hold a string\."),
    ],
)
def test_a_wrong_kind_in_the_channels_is_refused(base: Path, content: object, message: str) -> None:
    """The message names file and key."""
    write_config(base, "inputdataconfig.json", content)
    with pytest.raises(UserError, match=message):
        environment.read()


def test_resourceconfig_with_the_documented_keys(base: Path) -> None:
    """The three documented keys are enough; hosts are sorted as text."""
    write_config(
        base,
        "resourceconfig.json",
        {"current_host": "algo-10", "hosts": ["algo-2", "algo-10", "algo-1"], "network_interface_name": "eth0"},
    )
    env = environment.read()
    assert env.hosts == ("algo-1", "algo-10", "algo-2")
    assert env.current_host == "algo-10"
    assert env.network_interface_name == "eth0"
    assert env.output_data_dir == base / "output/data/algo-10"


def test_resourceconfig_with_all_real_keys(base: Path) -> None:
    """Keys that real jobs have beside the documented ones are taken, topology null too."""
    write_config(
        base,
        "resourceconfig.json",
        {
            "current_host": "algo-1-ab12c",
            "current_instance_type": "ml.g5.xlarge",
            "current_group_name": "homogeneousCluster",
            "hosts": ["algo-1-ab12c"],
            "instance_groups": [
                {"instance_group_name": "g", "instance_type": "ml.g5.xlarge", "hosts": ["algo-1-ab12c"]}
            ],
            "network_interface_name": "ethwe",
            "topology": None,
        },
    )
    assert environment.read().hosts == ("algo-1-ab12c",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"hosts": "algo-1"}, "key 'hosts' is not a list of host names"),
        ({"hosts": []}, "key 'hosts' is not a list of host names"),
        ({"hosts": [1]}, "key 'hosts' is not a list of host names"),
        ({"hosts": ["a", "b"]}, "key 'current_host' is None"),
        ({"hosts": ["a"], "current_host": "b"}, "key 'current_host' is 'b', which is not among 'hosts'"),
        ({"hosts": ["../x"]}, "key 'hosts' holds '../x'"),
    ],
)
def test_wrong_hosts_are_refused(base: Path, content: object, message: str) -> None:
    """A host name becomes a folder's name, so it is checked."""
    write_config(base, "resourceconfig.json", content)
    with pytest.raises(UserError, match=message):
        environment.read()


def test_checkpoint_folder_comes_from_checkpointconfig(base: Path, tmp_path: Path) -> None:
    """LocalPath is where checkpoints go; below /opt/ml it means below the base folder."""
    write_config(base, "checkpointconfig.json", {"LocalPath": "/opt/ml/my/checkpoints", "S3Uri": "s3://b/p"})
    write_config(base, "tensorboardoutputconfig.json", {"LocalPath": str(tmp_path / "board")})
    env = environment.read()
    assert env.checkpoint_dir == base / "my/checkpoints"
    assert env.tensorboard_dir == tmp_path / "board"


def test_a_relative_checkpoint_folder_is_refused(base: Path) -> None:
    """Nobody could say below what."""
    write_config(base, "checkpointconfig.json", {"LocalPath": "checkpoints"})
    with pytest.raises(UserError, match=r"key 'LocalPath' is 'checkpoints'\. It must be an absolute path"):
        environment.read()


def test_an_undeclared_channel_names_itself_the_present_ones_and_the_causes(base: Path) -> None:
    """A missing channel: its name, its path, the channels there are, and the three likely causes."""
    add_channel(base, "training", "a.jpg")
    with pytest.raises(UserError) as caught:
        environment.require_channel(environment.read(), ("train",))
    for part in ("'train'", str(base / "input/data/train"), "'training'", "another name", "S3 URI", "permission"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "message"), [("absent", "has no folder"), ("empty", "has no files"), ("nested", "has no files")]
)
def test_a_channel_without_files_names_itself_and_its_path(base: Path, kind: str, message: str) -> None:
    """An empty channel: declared, then a folder, then not empty; folders alone are no files."""
    write_config(base, "inputdataconfig.json", {"train": {}})
    if kind != "absent":
        add_channel(base, "train")
    if kind == "nested":
        (base / "input/data/train/images").mkdir()
    with pytest.raises(UserError, match=rf"Channel 'train' {message} \(.*input/data/train\)"):
        environment.require_channel(environment.read(), ("train",))


def test_a_sharded_channel_without_files_says_that_it_is_sharded(base: Path) -> None:
    """ShardedByS3Key gives a host nothing when there are fewer objects than hosts."""
    write_config(base, "inputdataconfig.json", {"train": {"S3DistributionType": "ShardedByS3Key"}})
    add_channel(base, "train")
    with pytest.raises(UserError, match="ShardedByS3Key"):
        environment.require_channel(environment.read(), ("train",))


def test_a_file_in_place_of_a_channel_is_refused(base: Path) -> None:
    """A channel is a folder."""
    write_config(base, "inputdataconfig.json", {"train": {}})
    (base / "input/data").mkdir()
    (base / "input/data/train").write_text("x")
    with pytest.raises(UserError, match="is a file, not a folder"):
        environment.require_channel(environment.read(), ("train",))


def test_the_first_declared_of_several_names_is_the_channel(base: Path) -> None:
    """train and training are both usual."""
    add_channel(base, "training", "images/a.jpg")
    env = environment.read()
    assert environment.require_channel(env, ("train", "training")).name == "training"
    assert environment.optional_channel(env, ("validation", "val")) is None


def test_a_channel_that_is_a_link_to_a_folder_has_files(base: Path, tmp_path: Path) -> None:
    """A laptop user links the data set instead of copying it."""
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/a.jpg").write_text("x")
    (base / "input/data").mkdir()
    (base / "input/data/train").symlink_to(tmp_path / "dataset")
    assert environment.require_channel(environment.read(), ("train",)).name == "train"


@pytest.mark.parametrize("mode", ["Pipe", "pipe"])
def test_pipe_mode_is_refused_without_opening_the_fifo(base: Path, mode: str) -> None:
    """Pipe mode: refused at once, with the modes that are supported."""
    write_config(base, "inputdataconfig.json", {"train": {"TrainingInputMode": mode}})
    (base / "input/data").mkdir()
    os.mkfifo(base / "input/data/train_0")
    with pytest.raises(UserError, match=rf"Channel 'train' has TrainingInputMode '{mode}'\..*'File' and 'FastFile'"):
        environment.optional_channel(environment.read(), ("train",))


def test_fast_file_mode_is_taken(base: Path) -> None:
    """FastFile looks like a folder of files, whatever the platform calls it."""
    write_config(base, "inputdataconfig.json", {"train": {"TrainingInputMode": "FastFile"}})
    add_channel(base, "train", "a.jpg")
    assert environment.require_channel(environment.read(), ("train",)).input_mode == "FastFile"


def test_stop_is_requested_once_the_file_exists(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """False without the variable, false before the request, true after it, also when it comes twice."""
    assert not environment.stop_requested()
    monkeypatch.setenv("ICEMAKER_STOP_FILE", str(tmp_path / "stop"))
    assert not environment.stop_requested()
    environment.request_stop()
    assert environment.stop_requested()
    environment.request_stop()
    assert environment.stop_requested()


def test_scratch_is_made_once_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    """Without PID 1 the first reader makes a private folder, and later readers take the same."""
    monkeypatch.setenv("ICEMAKER_SCRATCH_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = environment.read().scratch_dir
    assert first.parent == tmp_path
    assert first.stat().st_mode & 0o777 == 0o700
    assert environment.read().scratch_dir == first


def test_home_is_scratch_inside_the_block(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that writes below HOME when imported writes to scratch; HOME is restored, also when it was unset."""
    monkeypatch.setenv("HOME", "/home/somebody")
    with environment.scratch_home() as home:
        assert Path.home() == home == environment.read().scratch_dir
    assert os.environ["HOME"] == "/home/somebody"
    monkeypatch.delenv("HOME")
    with pytest.raises(ZeroDivisionError), environment.scratch_home():
        raise ZeroDivisionError
    assert "HOME" not in os.environ


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "86400", "inf"])
def test_a_wrong_stop_grace_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The message names the variable, the value and the range."""
    monkeypatch.setenv("ICEMAKER_STOP_GRACE_SECONDS", text)
    with pytest.raises(UserError, match=f"'ICEMAKER_STOP_GRACE_SECONDS' has value '{text}'"):
        environment.stop_grace_seconds()


def test_environment_page_is_written_from_the_table() -> None:
    """docs/environment.md is written from the table."""
    assert (ROOT / "docs/environment.md").read_text(encoding="utf-8") == variables.markdown()


def test_the_contract_is_read_without_any_library() -> None:
    """PID 1 needs the standard library only: it runs with no site-packages at all."""
    code = "from icemaker import launch; import sys; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'container')!r}); {code}"]
    assert subprocess.run(command, check=False).returncode == 0
