"""Plain PyTorch loops without Lightning, with which the loops of the package are compared."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from mlic.data.images import open_image
from mlic.models import FrozenBackbone

BATCH_SIZE = 32

Scored = tuple[Tensor, Tensor]  # logits and targets (N, C)


class Photographs(Dataset[Tensor]):
    """Dataset of uint8 images (3, H, W) of the input size of a backbone."""

    def __init__(self, paths: Sequence[Path], backbone: FrozenBackbone, *, draft: bool = True) -> None:
        """Decode `paths`; `draft` reduces large JPEGs while decoding."""
        self.paths, self.transform = list(paths), backbone.transform
        self.draft_size = backbone.resize_size if draft else None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Decode and transform one."""
        return torch.tensor(self.transform(open_image(self.paths[index], draft_size=self.draft_size)))


class BareTraining:
    """Training of a head with its loss and fused Adam on features in memory."""

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        *,
        num_train: int,
        hidden: Sequence[int] = (256,),
        dropout: float = 0.6,
        learning_rate: float = 1e-3,
    ) -> None:
        """Build head and optimizer.

        Args:
            features: features (N, *feature_shape) of any floating-point dtype.
            targets: float32 (N, C).
            num_train: number of training rows (the first ones); the others are scored after each epoch.
            hidden: widths of the hidden layers of the head.
            dropout: dropout before them.
            learning_rate: learning rate of Adam.
        """
        self.features, self.targets, self.num_train = features, targets, num_train
        widths = [features[0].numel(), *hidden]
        layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(dropout)]
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], targets.shape[1]))
        self.class_weights = torch.ones(targets.shape[1])
        self.optimizer = torch.optim.Adam(self.head.parameters(), lr=learning_rate, fused=True)

    def epoch(self) -> tuple[Scored, Scored]:
        """Train on all training rows in random order, then score the others.

        Returns:
            Logits and targets of the training rows during training, and of the others.
        """
        self.head.train()
        order = torch.randperm(self.num_train)
        seen = [
            self.step(self.features[rows].float(), self.targets[rows]) for rows in order.split(BATCH_SIZE)
        ]
        self.head.eval()
        with torch.no_grad():
            scored = [self.head(rows.float()) for rows in self.features[self.num_train :].split(256)]
        if not scored:
            scored = [torch.empty(0, self.targets.shape[1])]
        return (torch.cat(seen), self.targets[order]), (torch.cat(scored), self.targets[self.num_train :])

    def step(self, features: Tensor, targets: Tensor) -> Tensor:
        """Take one step of the optimizer and return the logits (B, C)."""
        logits = self.head(features)
        loss = functional.binary_cross_entropy_with_logits(logits, targets, weight=self.class_weights)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return logits.detach()
