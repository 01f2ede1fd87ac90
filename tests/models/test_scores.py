import torch

from mlic.models.scores import ScoreCollector


def test_each_row_counts_once_and_rows_are_ordered():
    collector = ScoreCollector()
    collector.update(torch.tensor([4, 1]), torch.tensor([[4.0], [1.0]]), torch.tensor([[1.0], [0.0]]))
    collector.update(torch.tensor([2, 4]), torch.tensor([[2.0], [4.0]]), torch.tensor([[0.0], [1.0]]))
    collected = collector.collect()
    assert collected.rows.tolist() == [1, 2, 4]
    assert collected.logits.flatten().tolist() == [1.0, 2.0, 4.0]
    assert collected.targets.flatten().tolist() == [0.0, 0.0, 1.0]
