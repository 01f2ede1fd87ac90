"""Dropout with 16-bit random numbers against its definition and against PyTorch's."""

import pytest
import torch

from mlic.models.dropout import LEVELS, FastDropout


def masked(p: float, shape: tuple[int, ...] = (512, 1281), seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return FastDropout(p)(torch.ones(shape))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.6, 0.95])
def test_share_and_scale_of_the_kept_values(p: float):
    output = masked(p)
    kept = output != 0
    # five standard deviations of a binomial
    assert (~kept).float().mean().item() == pytest.approx(
        p, abs=5 * (p * (1 - p) / kept.numel()) ** 0.5 + 1e-5
    )
    scale = LEVELS / (LEVELS - round(p * LEVELS))
    assert output[kept].unique().tolist() == pytest.approx([scale])
    assert scale == pytest.approx(1 / (1 - p), rel=2e-4)


def test_values_are_dropped_independently():
    dropped = (masked(0.5, (2000, 64)) == 0).float()
    # of neighbours, which come out of one draw of 64 bits, of rows, and of every fourth value
    for first, second in (
        (dropped[:, :-1], dropped[:, 1:]),
        (dropped[:-1], dropped[1:]),
        (dropped[:, :-4], dropped[:, 4:]),
    ):
        both = (first * second).mean().item()
        assert both == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / first.numel()) ** 0.5)
    share = dropped.mean(dim=0)
    assert share.min() > 0.44 and share.max() < 0.56


def test_the_seed_determines_the_mask_and_threads_do_not():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = masked(0.5)
        torch.set_num_threads(4)
        assert torch.equal(masked(0.5), one)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(masked(0.5, seed=1), one)
    torch.manual_seed(0)
    module = FastDropout(0.5)
    assert not torch.equal(module(torch.ones(100)), module(torch.ones(100)))


def test_gradients_pass_through_the_kept_values_only():
    values = torch.randn(7, 11, requires_grad=True)
    output = FastDropout(0.5)(values)
    output.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad != 0, output != 0)
    assert values.grad[values.grad != 0].unique().tolist() == pytest.approx([2.0])


def test_identity_in_evaluation_and_without_dropout():
    values = torch.randn(3, 5)
    assert FastDropout(0.7).eval()(values) is values
    assert FastDropout(0.0)(values) is values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shape_and_format_stay(dtype: torch.dtype):
    output = FastDropout(0.25)(torch.ones(2, 3, 5, dtype=dtype).transpose(0, 1))
    assert output.shape == (3, 2, 5) and output.dtype == dtype
    assert FastDropout(0.25)(torch.empty(0, 4)).shape == (0, 4)


def test_nearly_all_dropped_stays_finite():
    output = masked(0.999999)
    assert torch.isfinite(output).all() and (output != 0).float().mean() < 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_it_is_the_dropout_of_pytorch():
    values = torch.ones(1000, device="cuda")
    torch.manual_seed(0)
    expected = torch.nn.functional.dropout(values, 0.4)
    torch.manual_seed(0)
    assert torch.equal(FastDropout(0.4)(values), expected)
