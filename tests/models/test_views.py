import pytest
import torch
from torch import Tensor, nn

from mlic.errors import InputError
from mlic.models import MultiLabelClassifier
from mlic.models.views import average_over_views


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh())


def mirror(images: Tensor) -> Tensor:
    return images.flip(-1)


def test_features_of_two_views_give_the_mean_logits(network: nn.Module):
    first, second = torch.randn(4, 12), torch.randn(4, 12)
    both = torch.stack([first, second], dim=1)
    expected = (network(first) + network(second)) / 2
    torch.testing.assert_close(average_over_views(network, both, 2, mirror=None), expected)
    torch.testing.assert_close(average_over_views(network, first, 1, mirror=None), network(first))


def test_images_are_mirrored(network: nn.Module):
    images = torch.randn(4, 3, 2, 2)
    expected = (network(images) + network(images[..., [1, 0]])) / 2
    found = average_over_views(network, images, 2, mirror=mirror)
    torch.testing.assert_close(found, expected)
    mirrored: Tensor = average_over_views(network, images.flip(-1), 2, mirror=mirror)
    torch.testing.assert_close(found, mirrored)


def test_other_numbers_of_views_are_refused(network: nn.Module):
    with pytest.raises(InputError, match=r"features\.views: 3 is neither 1 nor 2"):
        MultiLabelClassifier(network, nn.Identity(), torch.optim.Adam, ["a"], views=3)
