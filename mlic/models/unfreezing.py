"""Selection of the stages of a backbone to train."""

from typing import Any

from timm.models import group_parameters

from mlic.errors import InputError


def network_stages(network: Any) -> list[list[str]]:
    """Return the names of the parameters of a timm network by stage, from the input on, as grouped by timm.

    A group of only vectors, such as a last normalisation, belongs to the previous stage. A network that timm does not
    group is a single stage.
    """
    parameters = dict(network.named_parameters())
    if not hasattr(network, "group_matcher"):
        return [list(parameters)]
    stages: list[list[str]] = []
    for names in group_parameters(network, network.group_matcher(coarse=True)).values():
        if stages and all(parameters[name].ndim == 1 for name in names):
            stages[-1] += names
        else:
            stages.append(list(names))
    return stages


def unfreeze_stages(network: Any, unfreeze: int | str) -> list[list[str]]:
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
    stages = network_stages(network)
    number = len(stages) if unfreeze == "all" else unfreeze
    if not isinstance(number, int) or not 0 <= number <= len(stages):
        raise InputError(
            f"model.backbone.unfreeze: must be all or from 0 to {len(stages)} (number of stages), got '{unfreeze}'."
        )
    chosen = stages[len(stages) - number :]
    for stage in chosen:
        for name in stage:
            network.get_parameter(name).requires_grad_(True)
    return chosen
