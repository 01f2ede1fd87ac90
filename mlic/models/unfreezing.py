"""Which parts of a backbone are trained, and how fast."""

from collections.abc import Iterator
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlic.errors import InputError


def network_stages(network: Any) -> list[list[str]]:
    """Names of a timm network's parameters, stage by stage from the input on, as timm groups its layers.

    A group of vectors only, such as a last normalisation, belongs to the stage before it.

    Raises:
        InputError: the network does not say how its layers are grouped.
    """
    if not hasattr(network, "group_matcher"):
        raise InputError(
            f"model.backbone.unfreeze: timm does not group the layers of {type(network).__name__}; use 0 or all."
        )
    parameters = dict(network.named_parameters())
    stages: list[list[str]] = []
    for names in group_parameters(network, network.group_matcher(coarse=True)).values():
        if stages and all(parameters[name].ndim == 1 for name in names):
            stages[-1] += names
        else:
            stages.append(list(names))
    return stages


def unfreeze_stages(network: nn.Module, unfreeze: int | str) -> list[list[str]]:
    """Let the last stages of a network be trained.

    Args:
        network: a timm network, frozen.
        unfreeze: number of last stages, or `all`.

    Returns:
        Names of the parameters of each trained stage, the last stage last.

    Raises:
        InputError: no such number of stages.
    """
    if unfreeze == 0:
        return []
    if unfreeze == "all" and not hasattr(network, "group_matcher"):
        stages = [[name for name, _ in network.named_parameters()]]
    else:
        stages = network_stages(network)
    if unfreeze != "all" and (not isinstance(unfreeze, int) or not 0 <= unfreeze <= len(stages)):
        raise InputError(
            f"model.backbone.unfreeze: '{unfreeze}' is neither all nor from 0 to {len(stages)}, the number of stages."
        )
    chosen = stages if unfreeze == "all" else stages[len(stages) - int(unfreeze) :]
    for stage in chosen:
        for name in stage:
            network.get_parameter(name).requires_grad_(True)
    return chosen


def stage_groups(
    network: nn.Module, stages: list[list[str]], *, learning_rate: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: the last stage at `learning_rate`, each before it at `layer_decay` times that.

    Layer-wise decay as in Clark et al., ELECTRA, 2020, by stages.
    """
    return [
        {
            "params": [network.get_parameter(name) for name in stage],
            "lr": learning_rate * layer_decay ** (len(stages) - 1 - place),
        }
        for place, stage in enumerate(stages)
    ]


def trained_batch_norms(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """BatchNorm layers whose weights are trained, by name."""
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and any(weight.requires_grad for weight in module.parameters()):
            yield name, module
