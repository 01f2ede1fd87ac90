"""Class activation maps: the regions of a photograph that support a label."""

from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mlic.data.images import ImageReference, open_at_sizes
from mlic.errors import InputError
from mlic.inference.classifier import Classifier
from mlic.inference.loading import make_head
from mlic.models import FrozenBackbone

OPACITY = 0.7  # at the strongest support; without support the map is transparent


class ActivationMaps:
    """Draws the activation maps of a run."""

    def __init__(self, classifier: Classifier) -> None:
        """Build the head without the wrappers that `Classifier` adds for scoring.

        Raises:
            InputError: the backbone has no single feature map, or the head no gradient.
        """
        if len(classifier.backbone.members) > 1:
            raise InputError("each network of the ensemble has its own feature map")
        if classifier.backbone.identity.get("pool") == "cls":
            raise InputError("the class token has no positions (model.backbone.pool=cls)")
        head = make_head(classifier.saved, classifier.backbone.feature_shape, classifier.packages)
        with torch.enable_grad():
            logits = head(torch.zeros(1, *classifier.backbone.feature_shape, requires_grad=True))
        if not logits.requires_grad:
            raise InputError("the logits of this head have no gradient, such as those of head=knn")
        self.classifier, self.head = classifier, head.to(classifier.device)

    def overlay(self, image: ImageReference | Image.Image, label: str) -> Image.Image:
        """Return the input of the network with the map of a label in colour.

        Args:
            image: see `mlic.data.open_image`.
            label: one of the classes of the run.

        Raises:
            BadImageError: see `mlic.data.open_image`.
        """
        classifier = self.classifier
        backbone: Any = classifier.backbone  # a single backbone, not an ensemble
        crop = backbone.transform(open_at_sizes(image, classifier.draft_size, classifier.bits_stored))
        pixels = torch.from_numpy(np.array(crop))[None].to(classifier.device)
        return _blend(crop, activation_map(backbone, self.head, pixels, classifier.classes.index(label)))


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
        own = (weights * backbone.to_map(output.detach().float())).sum(dim=(0, 1)).cpu()
        support = support + (own.flip(-1) if index == 1 else own)
    support = support.clamp(min=0)
    return (support / support.max().clamp(min=1e-12)).numpy()


def _blend(crop: np.ndarray, found: np.ndarray) -> Image.Image:
    """Return an image uint8 (3, H, W) with a map (h, w) in colour, more opaque where it is larger."""
    picture = Image.fromarray(np.moveaxis(crop, 0, 2))
    support = Image.fromarray(np.uint8(255 * found)).resize(picture.size, Image.Resampling.BICUBIC)
    colours = matplotlib.colormaps["inferno"](np.asarray(support), bytes=True)[..., :3]
    return Image.composite(Image.fromarray(colours), picture, support.point(lambda value: OPACITY * value))
