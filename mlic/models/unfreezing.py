"""Selection of the stages of a backbone to train."""

from typing import Any

from timm.models import group_parameters
from torch import nn

from mlic.errors import InputError


def network_stages(network: Any) -> list[list[str]]:
    """Return the names of the parameters of a timm network by stage, from the input on, as grouped by timm.

    A group of only vectors, such as a last normalisation, belongs to the previous stage.

    Raises:
        InputError: timm does not group the layers of the network.
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
    """Enable training of the last stages of a network.

    Args:
        network: a timm network, frozen.
        unfreeze: number of last stages, or `all`.

    Returns:
        Names of the parameters of each trained stage, the last stage last.

    Raises:
        InputError: `unfreeze` is not a valid number of stages.
    """
    if unfreeze == 0:
        return []
    if unfreeze == "all" and not hasattr(network, "group_matcher"):
        stages = [[name for name, _ in network.named_parameters()]]
    else:
        stages = network_stages(network)
    if unfreeze != "all" and (not isinstance(unfreeze, int) or not 0 <= unfreeze <= len(stages)):
        raise InputError(
            f"model.backbone.unfreeze: must be all or from 0 to {len(stages)} (number of stages), got '{unfreeze}'."
        )
    chosen = stages if unfreeze == "all" else stages[len(stages) - int(unfreeze) :]
    for stage in chosen:
        for name in stage:
            network.get_parameter(name).requires_grad_(True)
    return chosen
