import torch
from torch.nn import functional

from mlic.models import DenseHead, WeightedBCE


def test_dense_head_is_flatten_dropout_linear_relu_linear():
    head = DenseHead((3, 2, 2), 5, hidden=[8, 4], dropout=0.5).eval()
    features = torch.randn(6, 3, 2, 2)
    first, second, last = (module for module in head if isinstance(module, torch.nn.Linear))
    expected = last(functional.relu(second(functional.relu(first(features.flatten(1))))))
    torch.testing.assert_close(head(features), expected)
    assert [layer.out_features for layer in (first, second, last)] == [8, 4, 5]


def test_weighted_bce_is_the_mean_of_weighted_terms():
    logits, targets = torch.randn(7, 3), torch.randint(0, 2, (7, 3)).float()
    weights = torch.tensor([0.5, 1.0, 2.0])
    scores = torch.sigmoid(logits)
    terms = -(targets * scores.log() + (1 - targets) * (1 - scores).log())
    torch.testing.assert_close(WeightedBCE(weights.numpy())(logits, targets), (weights * terms).mean())


def test_pos_weight_scales_present_labels_only():
    logits = torch.randn(5, 2)
    weighted, plain = WeightedBCE([1.0, 1.0], pos_weight=3.0), WeightedBCE([1.0, 1.0])
    absent, present = torch.zeros(5, 2), torch.ones(5, 2)
    torch.testing.assert_close(weighted(logits, absent), plain(logits, absent))
    torch.testing.assert_close(weighted(logits, present), 3 * plain(logits, present))


def test_hidden_dropout_stands_after_each_hidden_layer():
    head = DenseHead((4,), 2, hidden=[8, 6], dropout=0.5, hidden_dropout=0.25)
    assert [module.p for module in head if hasattr(module, "p")] == [0.5, 0.25, 0.25]
    plain = DenseHead((4,), 2, hidden=[8, 6], dropout=0.5)
    assert [module.p for module in plain if hasattr(module, "p")] == [0.5]
    assert head.train()(torch.ones(2, 4)).shape == (2, 2)
