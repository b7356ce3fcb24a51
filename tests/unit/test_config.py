"""Hyperparameter strings become settings, or one message that names them."""

import json

import pytest

from icemaker.config import Settings, allowed, describe_settings, parse, parse_text
from icemaker.errors import UserError
from icemaker.tasks.detection.settings import BACKBONES, DetectionSettings

# One value as each of SageMaker's clients writes it: raw API, SDK v2 generic, SDK v2 framework, SDK v3, tuner.
DIALECTS = {
    "epochs": (12, ["12", "12", "12", "12", '"12"', '"\\"12\\""', "12.0"]),
    "learning_rate": (0.01, ["0.01", "1e-2", '"0.01"', '"\\"0.01\\""']),
    "allow_download": (True, ["true", "True", '"true"', "TRUE", "1"]),
    "freeze_backbone": (False, ["false", "False", '"False"', "0"]),
    "optimizer": ("sgd", ["sgd", '"sgd"', "'sgd'"]),
    "max_steps": (None, ["None", "null", '"null"', "none"]),
    "epochs ": (30, ["None", "null"]),  # not set
    "anchor_sizes": ((8, 16, 32, 64, 128), ["[8, 16, 32, 64, 128]", "(8, 16, 32, 64, 128)", "8,16,32,64,128"]),
    "milestones": ((0.5, 0.75), ["[0.5, 0.75]", '"[0.5, 0.75]"', "0.5, 0.75"]),
    "pretrained": ("true", ["true", "True", '"true"']),
    "augmentation": ("none", ["none", '"none"', "'none'"]),
    "augmentation ": ("default", ["null", "default"]),
    "num_workers": (2, ["2", '"2"', "2.0"]),
    "num_workers ": ("auto", ["auto", '"auto"', "None"]),
    "annotations": ("a b.json", ["a b.json", '"a b.json"']),
    "images": ("2024", ["2024", '"2024"']),
}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [(name.strip(), text, value) for name, (value, texts) in DIALECTS.items() for text in texts],
)
def test_all_dialects_mean_the_same(name: str, text: str, expected: object) -> None:
    """Every client's spelling of a value gives the same setting (contract items 13 and 14)."""
    settings = parse({"model_type": "faster_rcnn", name: text}, DetectionSettings)
    value = getattr(settings, name)
    assert value == expected
    assert type(value) is type(expected)


def test_no_hyperparameters_train_the_default_detector() -> None:
    """With nothing at all the settings are those of EfficientDet tf_lite0 (contract item 12)."""
    settings = parse({}, DetectionSettings)
    assert (settings.task, settings.model_type, settings.backbone) == ("detection", "efficientdet", "tf_lite0")


def test_names_of_the_blog_work_as_they_are() -> None:
    """The eight names of the blog's job, with its dotted values."""
    raw = {
        "model_type": "models.ross.efficientdet", "backbone": "models.ross.efficientdet.backbones.tf_lite0",
        "img_size": "384", "batch_size": "4", "num_classes": "4", "learning_rate": "1e-3", "epochs": "2",
    }  # fmt: skip
    settings = parse(raw, DetectionSettings)
    assert (settings.model_type, settings.backbone, settings.num_classes) == ("efficientdet", "tf_lite0", 4)


@pytest.mark.parametrize(
    "text",
    ["models.torchvision.faster_rcnn", "torchvision.faster_rcnn", "faster_rcnn", '"models.faster_rcnn"'],
)
def test_dotted_and_short_model_types_are_one(text: str) -> None:
    """IceVision's dotted names and the short ones mean the same model."""
    assert parse({"model_type": text}, DetectionSettings).model_type == "faster_rcnn"


def test_dash_and_underscore_are_one() -> None:
    """`batch-size` is `batch_size` (contract item 17)."""
    assert parse({"batch-size": "3"}, DetectionSettings).batch_size == 3


def test_learning_rate_default_is_the_model_types() -> None:
    """An unset learning rate is the model type's own; a set one stays."""
    assert parse({}, DetectionSettings).learning_rate == 0.002
    assert parse({"model_type": "retinanet"}, DetectionSettings).learning_rate == 0.0001
    assert parse({"model_type": "retinanet", "learning_rate": "0.5"}, DetectionSettings).learning_rate == 0.5


REFUSED = {
    "unknown with a near name": ({"learnin_rate": "1"}, r"'learnin_rate' is unknown\. Did you mean 'learning_rate'\?"),
    "unknown without one": ({"xyzzy": "1"}, r"'xyzzy' is unknown\. `train --help`"),
    "twice": ({"img_size": "128", "img-size": "256"}, r"'img_size' is given twice \(also as 'img-size'\)"),
    "below": ({"epochs": "0"}, r"'epochs' has value 0\. Allowed: a whole number, at least 1"),
    "fraction": ({"batch_size": "1.5"}, r"'batch_size' has value 1\.5\. Allowed: a whole number"),
    "bool for int": ({"epochs": "true"}, r"'epochs' has value 'true'\. Allowed: a whole number"),
    "nan": ({"learning_rate": "NaN"}, r"'learning_rate' has value nan\. Allowed: a number, above 0"),
    "infinite": ({"learning_rate": "1e999"}, r"'learning_rate' has value inf"),
    "choice": ({"optimizer": "adam"}, r"'optimizer' has value 'adam'\. Allowed: 'adamw' or 'sgd'"),
    "word for bool": ({"allow_download": "maybe"}, r"'allow_download' has value 'maybe'\. Allowed: true or false"),
    "list for int": ({"batch_size": "[8]"}, r"'batch_size' has value '\[8\]'"),
    "workers": ({"num_workers": "-1"}, r"'num_workers' has value -1\. Allowed: 0 to 256, or 'auto'"),
    "milestones": ({"milestones": "[2]"}, r"'milestones' has value \[2\]\. Allowed: a list of fractions"),
    "mmdet": ({"model_type": "models.mmdet.retinanet"}, r"has value 'models\.mmdet\.retinanet'\. Supported values are"),
    "code": ({"model_type": "__import__('os')"}, r"Supported values are efficientdet"),
    "backbone": ({"backbone": "resnet50_fpn"}, r"'backbone' has value 'resnet50_fpn', which model_type 'efficientdet'"),
    "size": ({"img_size": "300"}, r"'img_size' has value 300\. Allowed for efficientdet: multiples of 128\. Use 256"),
    "ignored knob": ({"nms_threshold": "0.4"}, r"'nms_threshold' is set, but model_type 'efficientdet' has no such"),
    "norm without pyramid": (
        {"model_type": "faster_rcnn", "backbone": "resnet18", "norm": "group"}, r"backbone 'resnet18' has no such"
    ),
    "anchors": ({"model_type": "retinanet", "anchor_sizes": "[8, 4]"}, r"'anchor_sizes' has value \[8, 4\]\. Allowed"),
    "ratios": ({"model_type": "retinanet", "anchor_ratios": "[-1]"}, r"'anchor_ratios' has value \[-1"),
    "background only": ({"num_classes": "1"}, r"'num_classes' has value 1\. Allowed: a whole number or null"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_hyperparameter_is_refused_with_name_value_and_range(raw: dict[str, str], message: str) -> None:
    """The message names the hyperparameter, its value and what is allowed (contract items 15 and 16)."""
    with pytest.raises(UserError, match=message):
        parse(raw, DetectionSettings)


def test_all_problems_come_in_one_message() -> None:
    """Two faults are two lines, so that a job fails once and not twice."""
    with pytest.raises(UserError) as caught:
        parse({"epochs": "0", "batch_size": "0"}, DetectionSettings)
    assert len(str(caught.value).splitlines()) == 2


def test_settings_are_frozen_and_survive_json() -> None:
    """Settings cannot change, and model.json gives them back."""
    settings = parse({"model_type": "faster_rcnn", "anchor_sizes": "[1,2,3,4,5]"}, DetectionSettings)
    with pytest.raises(Exception, match="frozen"):
        settings.epochs = 3  # type: ignore[misc]
    assert DetectionSettings(**json.loads(settings.model_dump_json())) == settings


def test_every_setting_has_a_description_and_a_range() -> None:
    """Each field says what it is for and what it may be."""
    rows = describe_settings(DetectionSettings)
    assert len(rows) == len(DetectionSettings.model_fields) > 40
    assert all(description and allowed(DetectionSettings, name) for name, _, _, description in rows)


def test_every_backbone_is_accepted_by_its_model_type() -> None:
    """The table of backbones and the settings agree."""
    for model_type, backbones in BACKBONES.items():
        for backbone in backbones:
            assert parse({"model_type": model_type, "backbone": backbone}, DetectionSettings).backbone == backbone


def test_text_in_quotes_is_text() -> None:
    """A single text value loses the quotes that a client added."""
    assert parse_text('"detection"') == parse_text("detection") == Settings.model_fields["task"].default
