"""Heads: small networks that map the features of a frozen backbone to one logit per class."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from mlic.errors import InputError
from mlic.models.standardization import Standardization


def check_dropout(dropout: float, name: str = "dropout") -> None:
    """Raise an InputError if a dropout is not in [0, 1)."""
    if not 0 <= dropout < 1:
        raise InputError(f"head.{name}={dropout}: expected a number in [0, 1).")


class DenseHead(nn.Sequential):
    """Flatten, dropout, then `Linear` + ReLU for each hidden width, then `Linear` to the classes.

    This is the head of the original report, with one dropout before the dense layers. The last layer returns logits;
    the sigmoid is part of the loss and of the scores.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_classes: int,
        *,
        hidden: Sequence[int] = (256,),
        dropout: float = 0.5,
        hidden_dropout: float = 0.0,
        standardize: bool = False,
    ) -> None:
        """Build the layers.

        Args:
            feature_shape: shape of the features of one image.
            num_classes: width of the output.
            hidden: widths of the hidden layers; empty for a linear classifier.
            dropout: share of the features set to 0 in training, in [0, 1).
            hidden_dropout: share of the outputs of hidden layers set to 0 in training, in [0, 1).
            standardize: first scale features to mean 0 and standard deviation 1 over the training images.

        Raises:
            InputError: a dropout outside [0, 1), or a width below 1.
        """
        check_dropout(dropout)
        check_dropout(hidden_dropout, "hidden_dropout")
        if any(width < 1 for width in hidden):
            raise InputError(f"head.hidden: widths must be at least 1, got {list(hidden)}.")
        widths = [prod(feature_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        if standardize:
            layers.append(Standardization(widths[0]))
        layers.append(nn.Dropout(dropout))
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
            if hidden_dropout:
                layers.append(nn.Dropout(hidden_dropout))
        super().__init__(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, input: Tensor) -> Tensor:
        """Compute logits float32 (B, C) of features float32 (B, *feature_shape)."""
        return super().forward(input)
