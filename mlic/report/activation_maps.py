"""Class activation maps of the photographs in a gallery. Imports torch."""

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mlic.data.images import open_image
from mlic.errors import InputError
from mlic.inference.classifier import Classifier
from mlic.inference.loading import make_head
from mlic.models import FrozenBackbone
from mlic.report.galleries import Gallery, Photograph
from mlic.report.reading import ReportedRun
from mlic.report.thumbnails import QUALITY, Thumbnails

OPACITY = 0.7  # at the strongest support; without support the map is transparent


def add_activation_maps(
    run: ReportedRun, galleries: Sequence[Gallery], thumbnails: Thumbnails, packages: Sequence[str] = ()
) -> list[Gallery]:
    """Add a map to each photograph, of its most confident wrong label, else of its most confident right label.

    If the backbone is not available, the galleries are returned unchanged and the run gets a note.

    Args:
        run: a run with a checkpoint.
        galleries: result of `build_galleries`.
        thumbnails: thumbnails of the photographs of the run.
        packages: see `Classifier.load`.
    """
    try:
        classifier = Classifier.load(run.path, device="cpu", packages=packages)
        if len(classifier.backbone.members) > 1:
            raise InputError("each network of the ensemble has its own feature map")
        if classifier.backbone.identity.get("pool") == "cls":
            raise InputError("the class token has no positions (model.backbone.pool=cls)")
        head = make_head(classifier.saved, classifier.backbone.feature_shape, classifier.packages)
    except InputError as error:
        run.notes.append(f"no activation maps: {error}")
        return list(galleries)
    return [
        replace(
            gallery,
            photographs=[_with_map(item, classifier, head, thumbnails) for item in gallery.photographs],
        )
        for gallery in galleries
    ]


def activation_map(backbone: FrozenBackbone, head: nn.Module, pixels: Tensor, column: int) -> np.ndarray:
    """Compute Grad-CAM at the last feature map.

    Follows Selvaraju et al. (ICCV 2017): each channel is weighted by the mean gradient of the logit over its positions.
    With average pooling and a linear head this is the class activation map.

    Args:
        backbone: the frozen network, whose output is pooled features.
        head: module that maps features to logits.
        pixels: image, uint8 (1, 3, H, W).
        column: index of the class.

    Returns:
        float32 (h, w) from 0 to 1, with 1 at the strongest support of the class; all 0 if nothing supports it.
    """
    with torch.no_grad():
        # that of the image and, where the backbone averages both, that of its mirror image
        outputs = [output.detach().requires_grad_() for output in backbone.outputs(pixels)]
    with torch.enable_grad():
        features = [backbone.read_out(output, flip=index == 1) for index, output in enumerate(outputs)]
        logit = head(torch.stack(features).mean(dim=0))[0, column]
        gradients = torch.autograd.grad(logit, outputs)
    support = torch.zeros(())
    for index, (output, gradient) in enumerate(zip(outputs, gradients, strict=True)):
        weights = backbone.to_map(gradient.float()).mean(dim=(2, 3), keepdim=True)
        own = (weights * backbone.to_map(output.detach().float())).sum(dim=(0, 1))
        support = support + (own.flip(-1) if index == 1 else own)
    support = support.clamp(min=0)
    return (support / support.max().clamp(min=1e-12)).numpy()


def shown_label(photograph: Photograph) -> str | None:
    """Return the most confident wrong label (predicted or missed), else the most confident right one, or None."""
    wrong = [(label.score, label.name) for label in photograph.predicted if not label.good]
    wrong += [(1 - label.score, label.name) for label in photograph.true if not label.good]
    right = [(label.score, label.name) for label in photograph.predicted if label.good]
    return max(wrong or right or [(0.0, None)], key=lambda item: item[0])[1]


def _with_map(
    photograph: Photograph, classifier: Classifier, head: nn.Module, thumbnails: Thumbnails
) -> Photograph:
    path, label = thumbnails.reference(photograph.file_name), shown_label(photograph)
    if path is None or label is None or photograph.image is None:
        return photograph
    backbone: Any = classifier.backbone  # a single backbone, not an ensemble
    draft_size: Any = classifier.draft_size
    image = open_image(path, draft_size=draft_size, bits_stored=classifier.bits_stored)
    crop = backbone.transform(image)
    pixels = torch.from_numpy(np.array(crop))[None]
    found = activation_map(backbone, head, pixels, list(classifier.classes).index(label))
    return replace(photograph, map_image=_overlay(crop, found, thumbnails.pixels), map_label=label)


def _overlay(crop: np.ndarray, found: np.ndarray, pixels: int) -> str:
    """Return the coloured map over the input of the network as a `data:` address."""
    height, width = crop.shape[1:]
    smooth = Image.fromarray(found).resize((width, height), Image.Resampling.BICUBIC)
    support = np.clip(np.asarray(smooth), 0, 1)
    colours = matplotlib.colormaps["inferno"](support)[..., :3] * 255
    opacity = OPACITY * support[..., None]
    blended = (1 - opacity) * np.moveaxis(crop, 0, 2) + opacity * colours
    image = Image.fromarray(blended.astype(np.uint8))
    image.thumbnail((pixels, pixels))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
