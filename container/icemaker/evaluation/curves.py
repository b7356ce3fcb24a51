"""Loss and metrics of a run, epoch by epoch, as one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt


def plot_curves(history: Sequence[Mapping[str, float]], monitor: str, path: Path) -> None:
    """Draw the training loss and the validation metrics over the epochs, the best value of `monitor` marked."""
    figure, (loss_axes, metric_axes) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name in ("train_loss", "val_loss"):
        _line(loss_axes, history, name)
    loss_axes.set(title="Loss", xlabel="epoch", ylabel="loss")
    names = sorted({name for row in history for name in row if name.startswith("val_") and name != "val_loss"})
    overall = [name for name in names if name in ("val_map", "val_map_50", "val_map_75", "val_mar_100")]
    for name in overall or names:
        _line(metric_axes, history, name)
    metric_axes.set(title="Validation", xlabel="epoch", ylabel="score", ylim=(0, 1))
    scored = [(row[monitor], row["epoch"]) for row in history if monitor in row]
    if scored:
        value, epoch = (min if monitor.endswith("loss") else max)(scored)
        axes = loss_axes if monitor.endswith("loss") else metric_axes
        axes.axvline(epoch, color="0.6", linestyle="--", label=f"best {monitor} {value:.3f}")
    for axes in (loss_axes, metric_axes):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.savefig(path, dpi=100, format="png")
    plt.close(figure)


def _line(axes: plt.Axes, history: Sequence[Mapping[str, float]], name: str) -> None:
    points = [(row["epoch"], row[name]) for row in history if name in row]
    if points:
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
