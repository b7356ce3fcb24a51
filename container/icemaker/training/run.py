"""A training run from its settings to its artifact, readable from top to bottom. Knows no task by name."""

import json
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger

import icemaker
from icemaker import artifact, environment
from icemaker.config import Settings, parse, parse_text
from icemaker.environment import Environment
from icemaker.errors import StopRequested, UserError
from icemaker.evaluation import curves, gallery
from icemaker.log import logger, print_machine_line, quiet_libraries
from icemaker.tasks import find_task
from icemaker.tasks.task import DataSource, Task, TaskData
from icemaker.training import callbacks
from icemaker.training.loader import build_loaders
from icemaker.training.pretrained import load_pretrained

_GALLERY_IMAGES = 6


@dataclass(frozen=True)
class Outcome:
    """What the loop left: the weights to keep, and what is known of their worth."""

    weights: dict[str, Any]
    scores: dict[str, float]
    step: int
    epoch: int
    validated: bool
    metrics: Any  #: the task's metrics object of that validation, or None


def run(env: Environment) -> None:
    """Train what the job describes.

    Raises:
        UserError: The settings, the data or the machine do not allow it.
        StopRequested: Stopped before the first optimizer step; nothing was written.
    """
    quiet_libraries()
    _refuse_several_hosts(env)
    task, settings = _read_settings(env)
    data = _read_data(env, task, settings)
    _stop_here_if_requested()

    pl.seed_everything(settings.seed, verbose=False)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time, and nothing here reads such memory
    module = _build_module(env, task, settings, data)
    precision = _choose_precision(settings)
    _announce(settings, precision)
    outcome, history = fit(env, task, settings, data, module, precision)
    _stop_here_if_nothing(outcome)

    assert outcome is not None
    _save_model(env, task, settings, data, outcome, precision)
    _save_output(env, task, settings, data, outcome, history)
    logger.info("The model is in %s, its pictures and reports in %s.", env.model_dir, env.output_data_dir)


def _refuse_several_hosts(env: Environment) -> None:
    if len(env.hosts) > 1:
        raise UserError(
            f"The job has {len(env.hosts)} hosts ({', '.join(env.hosts[:4])}). This version trains on one. Set the "
            "instance count of the job to 1."
        )
    for channel in env.channels.values():
        if (channel.distribution or "").lower() == "shardedbys3key":
            raise UserError(
                f"Channel '{channel.name}' has S3DistributionType 'ShardedByS3Key', which parts images from their "
                "annotations. Set it to 'FullyReplicated'."
            )


def _read_settings(env: Environment) -> tuple[Task, Any]:
    name = parse_text(env.hyperparameters.get("task", Settings.model_fields["task"].default))
    task = find_task(name)
    settings = parse(env.hyperparameters, task.settings_class)
    logger.info("Settings: %s", json.dumps(settings.model_dump()))
    return task, settings


def _read_data(env: Environment, task: Task, settings: Settings) -> TaskData:
    def names(setting: str, *automatic: str) -> tuple[str, ...]:
        return automatic if setting == "auto" else (setting,)

    training = environment.require_channel(env, names(settings.training_channel, "training", "train"))
    validation_names = names(settings.validation_channel, "validation", "val")
    is_required = settings.validation_channel != "auto"
    find = environment.require_channel if is_required else environment.optional_channel
    validation = find(env, validation_names)
    data = task.read(
        settings,
        DataSource(
            training=training.path,
            training_channel=training.name,
            validation=validation.path if validation else None,
            validation_channel=validation.name if validation else None,
            scratch=env.scratch_dir,
            should_stop=environment.stop_requested,
        ),
    )
    _write_json(env.output_data_dir / "data_report.json", data.report)
    for level, text in data.report_lines:
        logger.log(level, "%s", text)
    return data


def _build_module(env: Environment, task: Task, settings: Any, data: TaskData) -> Any:
    names = (settings.pretrained_channel,)
    channel = None if settings.pretrained == "false" else environment.optional_channel(env, names)
    download = settings.pretrained == "true" and channel is None and settings.allow_download
    if settings.pretrained == "true" and channel is None and not download:
        raise UserError(
            f"Hyperparameter 'pretrained' is 'true', but the job has no channel '{settings.pretrained_channel}'. Add "
            "the channel with the weights file, or set allow_download to true where the job may reach the internet."
        )
    module = task.module(settings, data, download=download)
    if channel is not None:
        load_pretrained(module.model, channel.path, channel.name)
    elif not download:
        for name, value in (("norm", "frozen"), ("freeze_backbone", True)):
            if getattr(settings, name, None) == value:
                raise UserError(
                    f"Hyperparameter '{name}' has value {value!r}, but there are no pretrained weights: what is random "
                    f"would never learn. Add the channel '{settings.pretrained_channel}', or leave '{name}' out."
                )
        logger.info("Training starts from random weights (no channel '%s').", settings.pretrained_channel)
    if settings.freeze_backbone:
        module.model.freeze_backbone()
    return module


def _choose_precision(settings: Settings) -> Any:
    if settings.precision == "auto":
        if not torch.cuda.is_available():
            return "32-true"
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if settings.precision == "fp16" and not torch.cuda.is_available():
        raise UserError("Hyperparameter 'precision' has value 'fp16', which needs a GPU. Use 'auto', 'fp32' or 'bf16'.")
    return {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[settings.precision]


def _announce(settings: Any, precision: str) -> None:
    if environment.num_gpus() and not torch.cuda.is_available():
        raise UserError(
            f"The machine has {environment.num_gpus()} GPU(s), but torch {torch.__version__} cannot use them: CUDA "
            f"{torch.version.cuda} needs a newer driver, or the container was started without its GPUs. Use an "
            "instance with a newer driver, or set CUDA_VISIBLE_DEVICES to -1 to train on the CPU."
        )
    if torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name(0)} ({torch.cuda.device_count()} visible, 1 used)"
    else:
        device = f"CPU ({torch.get_num_threads()} threads)"
    logger.info("Training on %s, precision %s, torch %s.", device, precision, torch.__version__)
    values = {
        "task": settings.task,
        "model_type": getattr(settings, "model_type", None),
        "backbone": getattr(settings, "backbone", None),
        "hosts": 1,
        "world_size": 1,
        "global_batch": settings.batch_size * settings.accumulate_batches,
        "seed": settings.seed,
        "resumed_from_step": 0,
    }
    print_machine_line("run", values)


def fit(
    env: Environment, task: Task, settings: Any, data: TaskData, module: Any, precision: Any
) -> tuple[Outcome | None, list[dict[str, float]]]:
    """Run the loop; what is worth keeping of it, or None when it was stopped before its first step."""
    training_loader, validation_loader = build_loaders(task, data, settings)
    average = callbacks.AverageWeights(settings.ema_decay)
    evaluation = callbacks.Evaluation(task.metrics(settings, data), settings.monitor, average)
    history = callbacks.History(evaluation, env.output_data_dir / "history.csv")
    # In this order at each hook: the evaluation needs the averaged weights in place.
    hooks = [
        callbacks.StepSeed(settings.seed),
        callbacks.BadImages(settings.max_bad_images, data),
        evaluation,
        average,
        history,
        TQDMProgressBar() if sys.stdout.isatty() else callbacks.ProgressLines(settings),
        callbacks.StopCheck(settings.max_duration_seconds),
    ]
    if patience := settings.early_stopping_patience:
        hooks.append(
            EarlyStopping(
                settings.monitor,
                min_delta=settings.early_stopping_min_delta,
                patience=patience,
                mode="min" if settings.monitor.endswith("loss") else "max",
            )
        )
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=precision,
        max_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        accumulate_grad_batches=settings.accumulate_batches,
        gradient_clip_val=settings.gradient_clip_norm or None,
        check_val_every_n_epoch=settings.validate_every_epochs,
        num_sanity_val_steps=0,
        callbacks=hooks,
        logger=TensorBoardLogger(env.tensorboard_dir, name=None, version=""),
        default_root_dir=env.scratch_dir,
        enable_checkpointing=False,
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic="warn",
        log_every_n_steps=50,
    )
    try:
        trainer.fit(module, training_loader, validation_loader)
    except StopRequested:
        logger.info("Stopped at step %d.", trainer.global_step)
    except callbacks.LossNotFiniteError as error:
        if evaluation.best is None or not evaluation.best["scores"][settings.monitor]:
            raise  # nothing was learned before
        logger.warning("%s The best model until then is kept.", error)
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(
            f"The GPU has not enough memory: {str(error).splitlines()[0]} Use a smaller batch_size (now "
            f"{settings.batch_size}) with accumulate_batches, or a GPU with more memory."
        ) from error
    if any(isinstance(hook, EarlyStopping) and hook.stopped_epoch for hook in hooks):
        logger.info("Stopped early: %s has not become better for %d validations.", settings.monitor, patience)
    if trainer.global_step == 0:
        return None, history.rows
    best = evaluation.best
    if best is not None:
        kept = Outcome(best["weights"], best["scores"], best["step"], best["epoch"], True, best["metrics"])
        return kept, history.rows
    weights = callbacks.weights_of(average.model(module))
    return Outcome(weights, {}, trainer.global_step, trainer.current_epoch + 1, False, None), history.rows


def _stop_here_if_requested() -> None:
    if environment.stop_requested():
        raise StopRequested


def _stop_here_if_nothing(outcome: Outcome | None) -> None:
    if outcome is None:
        raise StopRequested


def _save_model(env: Environment, task: Task, settings: Any, data: TaskData, outcome: Outcome, precision: str) -> None:
    names = ("torch", "torchvision", "pytorch-lightning", "icevision", "albumentations", "opencv-python-headless")
    metadata = {
        "task": settings.task,
        **task.describe_model(settings, data),
        "class_names": list(data.class_names),
        "exports": [],
        "validated": outcome.validated,
        "epoch": outcome.epoch,
        "step": outcome.step,
        "seed": settings.seed,
        "precision": precision,
        "settings": settings.model_dump(mode="json"),
        "data_fingerprint": data.fingerprint,
        "versions": {
            "icemaker": icemaker.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in names},
        },
        "commit": environment.variable("ICEMAKER_COMMIT") or None,
    }
    artifact.save(env.model_dir, metadata=metadata, weights=outcome.weights, metrics=outcome.scores)


def _save_output(
    env: Environment, task: Task, settings: Any, data: TaskData, outcome: Outcome, history: list[dict[str, float]]
) -> None:
    folder = env.output_data_dir
    _write_json(folder / "data_report.json", data.report)  # again, with what was found while decoding
    if outcome.metrics is None:
        logger.warning("The model was not validated: it is of step %d, and no validation had ended.", outcome.step)
        return
    for name, content in task.validation_files(outcome.metrics).items():
        _write_json(folder / name, content)
    curves.plot_curves(history, settings.monitor, folder / "curves.png")
    pairs = task.gallery(settings, data, outcome.metrics, num_images=_GALLERY_IMAGES, width_px=gallery.WIDTH_PX)
    font = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    threshold = getattr(settings, "detection_threshold", None)
    gallery.save_gallery(pairs, ("Truth", f"Found (score from {threshold:g})"), font, folder / "gallery.png")
    print_machine_line("best", {"epoch": outcome.epoch, "step": outcome.step, **outcome.scores})


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".icemaker-{path.name}")
    part.write_text(json.dumps(content, allow_nan=False, indent=2 if path.name == "data_report.json" else None))
    part.rename(path)
