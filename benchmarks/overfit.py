#!/usr/bin/env python3
"""Train a detector on a few images of a COCO channel and validate it on the same: what it can learn, it must learn.

usage: benchmarks/overfit.py CHANNEL [--annotations FILE] [--images 16] [--output FOLDER] [NAME=VALUE ...]

NAME=VALUE are hyperparameters, for example model_type=retinanet. A fault in boxes, labels, anchors or scores shows as
a score far from 1. Prints the run's own log; the pictures are in FOLDER/output/data/algo-1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULTS = {
    "model_type": "faster_rcnn", "backbone": "resnet18_fpn", "img_size": "256", "regions_per_image": "64",
    "batch_size": "4", "epochs": "60", "validate_every_epochs": "10", "augmentation": "none",
    "learning_rate": "0.0005", "anchor_sizes": "[16, 32, 64, 128, 256]", "max_bad_images": "0", "num_workers": "0",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("channel", type=Path)
    parser.add_argument("--annotations", type=Path, help="COCO file; else the channel's only json")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--output", type=Path)
    parser.add_argument("hyperparameters", nargs="*", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    base = arguments.output or Path(tempfile.mkdtemp(prefix="overfit-"))
    annotations = arguments.annotations or next(arguments.channel.glob("*.json"))
    document = json.loads(annotations.read_text())
    found = {path.name: path for path in arguments.channel.rglob("*") if path.is_file()}
    document["images"] = document["images"][: arguments.images]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [box for box in document["annotations"] if box["image_id"] in kept]
    for channel in ("training", "validation"):
        folder = base / "input/data" / channel
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "annotations.json").write_text(json.dumps(document))
        for image in document["images"]:
            name = Path(image["file_name"]).name
            (folder / "images" / name).write_bytes(found[name].read_bytes())
    settings = DEFAULTS | dict(item.split("=", 1) for item in arguments.hyperparameters)
    (base / "input/config").mkdir(parents=True, exist_ok=True)
    (base / "input/config/hyperparameters.json").write_text(json.dumps(settings))
    environment = {**os.environ, "SAGEMAKER_BASE_DIR": str(base)}
    return subprocess.run([sys.executable, REPOSITORY / "train"], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
