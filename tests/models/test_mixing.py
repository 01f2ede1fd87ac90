import torch

from mlic.models.mixing import mix


def test_features_and_targets_are_mixed_alike_and_mostly_the_rows_own():
    identity = torch.eye(8)
    for seed in range(20):
        torch.manual_seed(seed)
        features, targets = mix(identity, identity.clone(), 1.0)
        torch.testing.assert_close(features, targets)
        torch.testing.assert_close(features.sum(1), torch.ones(8))
        assert (features.diagonal() >= 0.5).all()
    other = features - torch.diag(features.diagonal())
    assert ((other > 0).sum(1) <= 1).all()


def test_shares_are_spread_by_alpha():
    def mean_share(alpha: float) -> float:
        torch.manual_seed(0)
        pair = torch.tensor([[0.0], [1.0]])
        mixed = [mix(pair, pair, alpha)[0].max().item() for _ in range(300)]
        return sum(1 - share for share in mixed) / 300

    assert mean_share(0.05) < 0.06
    assert 0.1 < mean_share(1.0) < 0.16
    assert mean_share(0.05) < mean_share(1.0) < mean_share(20.0)


def test_the_generator_decides_and_maps_are_mixed_too():
    maps, targets = torch.randn(6, 3, 2, 2), torch.randint(0, 2, (6, 4)).float()
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(mix(maps, targets, 0.4))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert results[0][0].shape == maps.shape
