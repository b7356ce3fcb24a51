"""The detector's hyperparameters. Knows the names of models and backbones, and imports none of them."""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from icemaker.config import Settings

_FPN = (
    "resnet18_fpn", "resnet34_fpn", "resnet50_fpn", "resnet101_fpn", "resnet152_fpn", "resnext50_32x4d_fpn",
    "resnext101_32x8d_fpn", "wide_resnet50_2_fpn", "wide_resnet101_2_fpn",
)  # fmt: skip
_SINGLE_MAP = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext101_32x8d", "mobilenet")
_EFFICIENTDET = (
    *(f"tf_lite{size}" for size in range(4)),
    *(f"tf_d{size}" for size in (*range(8), "7x")),
    *(f"d{size}" for size in range(6)),  # IceVision names d6, d7 and d7x too, which effdet 0.4 does not have
    *(f"tf_d{size}_ap" for size in range(6)),
)

#: IceVision's module of each model type, and the backbones that work with it.
BACKBONES: dict[str, tuple[str, ...]] = {
    "efficientdet": _EFFICIENTDET,
    "faster_rcnn": _FPN + _SINGLE_MAP,
    "mask_rcnn": _FPN,
    "retinanet": _FPN,
}
MODULES = {
    "efficientdet": "models.ross.efficientdet",
    "faster_rcnn": "models.torchvision.faster_rcnn",
    "mask_rcnn": "models.torchvision.mask_rcnn",
    "retinanet": "models.torchvision.retinanet",
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "efficientdet": {"backbone": "tf_lite0", "learning_rate": 2e-3},
    "faster_rcnn": {"backbone": "resnet50_fpn", "learning_rate": 2e-4},
    "mask_rcnn": {"backbone": "resnet50_fpn", "learning_rate": 2e-4},
    "retinanet": {"backbone": "resnet50_fpn", "learning_rate": 1e-4},
}
#: Knobs that only some model types have; set for another one they are refused, not ignored.
_KNOBS: dict[str, tuple[str, ...]] = {
    "regions_per_image": ("faster_rcnn", "mask_rcnn"),
    "proposals_per_image": ("faster_rcnn", "mask_rcnn"),
    "anchor_sizes": ("faster_rcnn", "mask_rcnn", "retinanet"),
    "anchor_ratios": ("faster_rcnn", "mask_rcnn", "retinanet"),
    "nms_threshold": ("faster_rcnn", "mask_rcnn", "retinanet"),
    "norm": ("faster_rcnn", "mask_rcnn", "retinanet"),
}


class DetectionSettings(Settings):
    """What a detector's training can be told."""

    aliases: ClassVar[dict[str, str]] = {"image_size": "img_size", "epoch": "epochs", "lr": "learning_rate"}

    model_type: str = Field(
        "efficientdet",
        description="The detector: efficientdet, faster_rcnn, mask_rcnn or retinanet; IceVision's dotted names "
        "(models.ross.efficientdet) mean the same.",
    )
    backbone: str = Field(
        "auto", description="The backbone; auto: tf_lite0 for efficientdet, resnet50_fpn for the others."
    )
    img_size: int = Field(
        512, ge=64, le=4096, description="Pixels of the square that images are fitted into; efficientdet: times 128."
    )
    num_classes: int | None = Field(
        None, ge=2, description="Classes counting the background, as IceVision counts; checked against the data."
    )
    annotations: str | None = Field(
        None, description="The COCO file or VOC folder, relative to its channel, where a channel holds several."
    )
    images: str | None = Field(None, description="The folder of the images, relative to its channel.")
    augmentation: Literal["default", "light", "any_orientation", "none"] = Field(
        "default",
        description="default: flip, shift, scale, rotate, colour, blur, crop; light: flip and colour; any_orientation: "
        "flips and quarter turns both ways, colour; none: for overfitting checks.",
    )
    monitor: Literal["val_map", "val_map_50", "val_loss"] = Field(
        "val_map", description="The validation metric that chooses the best weights."
    )
    learning_rate: float = Field(
        2e-3, gt=0, le=10,
        description="Peak learning rate; unset: 0.002 for efficientdet, 0.0001 for retinanet, 0.0002 for the R-CNNs.",
    )  # fmt: skip
    norm: Literal["batch", "group", "frozen"] | None = Field(
        None,
        description="Normalisation of the backbone; unset: batch. frozen needs pretrained weights. Not efficientdet.",
    )
    regions_per_image: int | None = Field(
        None, ge=8, le=4096, description="Regions an image on which the box head trains; unset: 512. R-CNNs."
    )
    proposals_per_image: int | None = Field(
        None, ge=8, le=10_000, description="Proposals an image that reach the box head; unset: 2000 in training, 1000 "
        "else. R-CNNs.",
    )  # fmt: skip
    anchor_sizes: tuple[int, ...] | None = Field(
        None, description="Five anchor sizes in pixels of img_size, smallest first; unset: 32 to 512. Not efficientdet."
    )
    anchor_ratios: tuple[float, ...] | None = Field(
        None, description="Anchor heights over widths; unset: 0.5, 1, 2. Not efficientdet."
    )
    score_threshold: float = Field(
        0.05, ge=0, lt=1, description="Boxes that score less are dropped before anything else, metrics included."
    )
    nms_threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Overlap (IoU) above which the weaker box goes; unset: 0.5. Not efficientdet (0.5).",
    )
    detections_per_image: int = Field(100, ge=1, le=1000, description="Boxes an image at the most.")
    detection_threshold: float = Field(
        0.5, ge=0, le=1, description="Score from which a box is shown in pictures and answers; metrics use all boxes."
    )

    @field_validator("model_type")
    @classmethod
    def _known_model_type(cls, value: str) -> str:
        return normalise_model_type(value)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_model_type(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            model_type = normalise_model_type(str(values.get("model_type", "efficientdet")))
        except ValueError:
            return values  # the field's own validator says what is wrong
        values = dict(values)
        backbone = str(values.get("backbone", "auto")).removeprefix(MODULES[model_type] + ".").split("backbones.")[-1]
        values["backbone"] = _DEFAULTS[model_type]["backbone"] if backbone == "auto" else backbone
        values.setdefault("learning_rate", _DEFAULTS[model_type]["learning_rate"])
        return values

    @model_validator(mode="after")
    def _fits_the_model_type(self) -> "DetectionSettings":
        choices = BACKBONES[self.model_type]
        if self.backbone not in choices:
            raise ValueError(
                f"Hyperparameter 'backbone' has value {self.backbone!r}, which model_type '{self.model_type}' does not "
                f"have. Supported values are {', '.join(choices)}."
            )
        if self.model_type == "efficientdet" and self.img_size % 128:
            raise ValueError(
                f"Hyperparameter 'img_size' has value {self.img_size}. Allowed for efficientdet: multiples of 128. "
                f"Use {max(128, round(self.img_size / 128) * 128)}."
            )
        for knob, model_types in _KNOBS.items():
            if getattr(self, knob) is not None and self.model_type not in model_types:
                raise ValueError(
                    f"Hyperparameter '{knob}' is set, but model_type '{self.model_type}' has no such setting. "
                    f"It works with {', '.join(model_types)}. Leave it out."
                )
        if self.norm is not None and not self.backbone.endswith("_fpn"):
            raise ValueError(
                f"Hyperparameter 'norm' is set, but backbone '{self.backbone}' has no such setting. It works with the "
                "backbones that end in _fpn. Leave it out."
            )
        self._check_anchors()
        return self

    def _check_anchors(self) -> None:
        sizes, ratios = self.anchor_sizes, self.anchor_ratios
        if sizes is not None and (len(sizes) != 5 or list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
            raise ValueError(
                f"Hyperparameter 'anchor_sizes' has value {list(sizes)}. Allowed: five growing whole numbers, in "
                "pixels, for example [16, 32, 64, 128, 256]."
            )
        if ratios is not None and (not ratios or min(ratios) <= 0):
            raise ValueError(
                f"Hyperparameter 'anchor_ratios' has value {list(ratios)}. Allowed: numbers above 0, for example "
                "[0.5, 1, 2]."
            )


def normalise_model_type(value: str) -> str:
    """`models.ross.efficientdet`, `ross.efficientdet`, `models.efficientdet`, `efficientdet` -> `efficientdet`.

    Raises:
        ValueError: Anything else, with the list.
    """
    for model_type, module in MODULES.items():
        if value in (module, module.removeprefix("models."), f"models.{model_type}", model_type):
            return model_type
    names = ", ".join(f"{model_type} ({module})" for model_type, module in MODULES.items())
    raise ValueError(f"Supported values are {names}.")
