#!/usr/bin/env python3
"""What our loop costs over a bare PyTorch loop with the same model, batches and optimizer, in turns.

usage: benchmarks/training_loop.py [--steps 40] [--rounds 3] [--img-size 128] [--batch-size 8] [--model-type NAME]

Ours is the whole of training/run.py's fit: Lightning, the loader, seeds per step, history, progress, stop check and
TensorBoard, without the averaged weights. The bare loop loads the same samples in the same order, normalises, computes
the loss, clips the gradient and steps. Each side runs N and 3 N steps; the difference is free of set-up and of the
final validation. Prints CPU ms a step and the cost in percent, and checks that both sides end with equal weights.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `train` sets it: threads that spin would be measured
REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "container"))

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402

from icemaker import environment, log  # noqa: E402
from icemaker.config import parse  # noqa: E402
from icemaker.tasks import find_task  # noqa: E402
from icemaker.tasks.module import to_tensors  # noqa: E402
from icemaker.tasks.optimization import build_optimizer, learning_rate_factor  # noqa: E402
from icemaker.tasks.task import DataSource  # noqa: E402
from icemaker.training import callbacks, run  # noqa: E402
from icemaker.training.loader import build_loaders  # noqa: E402


def bare(task: Any, data: Any, settings: Any, module: Any) -> None:
    loader, _ = build_loaders(task, data, settings)
    optimizer = build_optimizer(module, settings)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(settings, settings.max_steps))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    seed = callbacks.StepSeed(settings.seed)
    module.train()
    step = 0
    while step < settings.max_steps:
        for batch in loader:
            torch.manual_seed(seed.of(step, rank=0))
            optimizer.zero_grad()
            module.training_step(to_tensors(batch), step).backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip_norm)
            optimizer.step()
            scheduler.step()
            step += 1
            if step == settings.max_steps:
                return
        loader.batch_sampler.set_epoch(loader.batch_sampler.epoch + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("steps", 40), ("rounds", 3), ("img-size", 128), ("batch-size", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model-type", default="efficientdet")
    options = parser.parse_args()
    log.quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        draw = [sys.executable, str(REPOSITORY / "local_test/draw_shapes.py"), folder, "--size", str(options.img_size)]
        subprocess.run([*draw, "--training", "64", "--validation", "2"], check=True)
        env = environment.read()
        output = Path(folder) / "output"
        output.mkdir()
        env = replace(env, output_data_dir=output, tensorboard_dir=output)
        task = find_task("detection")
        raw = {
            "img_size": str(options.img_size), "batch_size": str(options.batch_size), "num_workers": "0",
            "model_type": options.model_type, "ema_decay": "0", "epochs": "1000", "validate_every_epochs": "1000",
        }  # fmt: skip
        settings = parse(raw, task.settings_class)
        channels = Path(folder) / "training", "training", Path(folder) / "validation", "validation"
        data = task.read(settings, DataSource(*channels, env.scratch_dir, lambda: False))
        costs = []
        for round_number in range(1, options.rounds + 1):
            ms = {}
            weights = {}
            for side in ("bare", "icemaker"):
                seconds = {}
                for steps in (options.steps, 3 * options.steps):
                    limited = settings.model_copy(update={"max_steps": steps})
                    pl.seed_everything(1, verbose=False)
                    module = task.module(limited, data)
                    started = time.process_time()
                    if side == "bare":
                        bare(task, data, limited, module)
                    else:
                        run.fit(env, task, limited, data, module, "32-true")
                    seconds[steps] = time.process_time() - started
                    weights[side] = callbacks.weights_of(module.model)
                ms[side] = (seconds[3 * options.steps] - seconds[options.steps]) * 1000 / (2 * options.steps)
            for name, array in weights["bare"].items():
                assert (array == weights["icemaker"][name]).all(), f"the two sides' {name} differ"
            costs.append(100 * (ms["icemaker"] / ms["bare"] - 1))
            print(
                f"round {round_number}: bare {ms['bare']:.1f} ms a step, icemaker {ms['icemaker']:.1f} ms: "
                f"{costs[-1]:+.1f} %, weights equal",
                flush=True,
            )
        print(f"median: the loop costs {statistics.median(costs):+.1f} %")


if __name__ == "__main__":
    main()
