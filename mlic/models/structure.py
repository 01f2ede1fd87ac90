"""Drawing of a network and its head: `python -m mlic.models vgg16 --output vgg16.png`."""

from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from omegaconf import DictConfig
from torch import nn

from mlic.config import compose
from mlic.figures import GREY, PRIMARY, SECONDARY, new_figure, report_style
from mlic.models.pooling import read_out
from mlic.models.weights import build_network

WIDTH, ROW_HEIGHT, DPI = 5.6, 0.38, 110  # inches, pixels per inch
OTHERS = "no parameters"
COLOURS = {"frozen": PRIMARY, "trained": SECONDARY, OTHERS: GREY}
MANY_PARTS = 8  # a network with more parts than these does not nest them in a few containers


class Step(NamedTuple):
    """One box: its name, the shape of its output for one image, its parameters, and its kind (of COLOURS)."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    kind: str


def list_steps(config: DictConfig, num_classes: int) -> list[Step]:
    """Return the steps from an image to its scores, without weights and arithmetic.

    Args:
        config: composed from `conf/train.yaml`: one network, and `head=dense` or `head=linear`.
        num_classes: number of outputs.
    """
    with torch.device("meta"):
        network: Any = build_network(config.model.backbone.name, config.model.backbone.image_size)
        size = config.model.backbone.image_size or network.pretrained_cfg["input_size"][1]
        steps, output = _run_stages(network, size)
        shape = tuple(read_out(network, output, config.model.backbone.pool, (size, size)).shape[1:])
        steps.append(Step(f"pooling: {config.model.backbone.pool}", shape, 0, OTHERS))
        for layer in instantiate(config.head)(shape, num_classes):
            if isinstance(layer, nn.Dropout):
                steps.append(Step(f"dropout {layer.p:g}", (prod(shape),), 0, OTHERS))
            elif isinstance(layer, nn.Linear):
                shape = (layer.out_features,)
                parameters = sum(weights.numel() for weights in layer.parameters())
                steps.append(Step("dense, ReLU", shape, parameters, "trained"))
    steps[-1] = steps[-1]._replace(name="dense, sigmoid")
    return [Step("image", (3, size, size), 0, OTHERS), *steps]


def _run_stages(network: Any, size: int) -> tuple[list[Step], Any]:
    """Return the stages that timm lists for the network, and its output; consecutive ones of one shape are joined."""
    ends = {info["module"] for info in network.feature_info}
    depth = 1 if len(list(network.named_children())) > MANY_PARTS else 2
    steps: list[Step] = []
    parts: list[str] = []
    parameters = sum(weights.numel() for weights in network.parameters(recurse=False))

    def close(output: Any) -> None:
        nonlocal parameters
        shape, names = tuple(output.shape[1:]), [*parts]
        if steps and (steps[-1].shape == shape or not parts):
            earlier = steps.pop()
            names, parameters = [*earlier.name.split(" … "), *parts], parameters + earlier.parameters
        name = " … ".join(dict.fromkeys((names[0], names[-1])))
        steps.append(Step(name, shape, parameters, "frozen"))
        parts.clear()
        parameters = 0

    def count(name: str, module: nn.Module, output: Any) -> None:
        nonlocal parameters
        if own := sum(weights.numel() for weights in module.parameters(recurse=False)):
            parts.append(".".join(name.split(".")[:depth]))
            parameters += own
        if name in ends and (parts or steps):
            close(output)

    for name, module in network.named_modules():
        if name:
            module.register_forward_hook(lambda module, _, output, name=name: count(name, module, output))
    output = network.forward_features(torch.zeros(1, 3, size, size))
    close(output)
    return steps, output


def draw_structure(model: str, file: Path, num_classes: int) -> None:
    """Write a drawing of a choice of `model=` (one network) with its head; the ending of `file` is the format."""
    config = compose(f"model={model}", output=file.parent)
    with report_style():
        structure_figure(model, list_steps(config, num_classes)).savefig(file, dpi=DPI)


def structure_figure(title: str, steps: list[Step]) -> Figure:
    """Draw the steps from top to bottom, with the shape of the output and the number of parameters of each."""
    figure = new_figure(width=WIDTH, height=ROW_HEIGHT * (len(steps) + 1.6))
    axes = figure.add_subplot(xlim=(0, 1), ylim=(len(steps) + 0.3, -0.9))
    axes.axis("off")
    axes.text(0, -0.5, title, weight="bold", va="center")
    for place, step in enumerate(steps):
        if place:
            axes.annotate(
                "", (0.5, place), (0.5, place - 0.3), arrowprops={"arrowstyle": "-|>", "color": "#555"}
            )
        colour = COLOURS[step.kind]
        box = FancyBboxPatch(
            (0.01, place + 0.05), 0.98, 0.6, "round,pad=0,rounding_size=0.02", fc=colour, alpha=0.25
        )
        axes.add_patch(box)
        amount = f"{step.parameters:,} parameters, {step.kind}" if step.parameters else ""
        for x, text, align in ((0.03, step.name, "left"), (0.54, "x".join(map(str, step.shape)), "center")):
            axes.text(x, place + 0.35, text, ha=align, va="center", fontsize=8)
        axes.text(0.97, place + 0.35, amount, ha="right", va="center", fontsize=8)
    return figure
