from itertools import pairwise

import pytest
import torch

from mlic.models import cosine_with_warmup


def rates(total_steps: int, **options: float) -> list[float]:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=2.0)
    schedule = cosine_with_warmup(optimizer, total_steps=total_steps, **options)
    values = []
    for _ in range(total_steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def test_rises_in_a_line_and_falls_as_half_a_cosine():
    values = rates(100, warmup=0.2, final=0.1)
    assert values[:20] == pytest.approx([2.0 * step / 20 for step in range(1, 21)])
    assert max(values) == values[19] == values[20] == 2.0
    assert values[60] == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert all(later < earlier for earlier, later in pairwise(values[20:]))
    assert values[-1] == pytest.approx(0.2, abs=0.01)
