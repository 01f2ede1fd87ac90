"""Parts of a batch side by side give what the batch gives."""

import threading

import pytest
import torch
from torch import Tensor, nn

from mlic.models import FrozenBackbone
from mlic.models.lanes import in_lanes, num_lanes


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("batch_size", "threads", "expected"),
    [
        (32, 1, 1), (32, 2, 2), (32, 4, 4), (32, 16, 4), (33, 2, 1), (7, 4, 1), (15, 2, 1), (16, 2, 2), (24, 4, 2),
        (24, 6, 3), (32, 6, 2), (256, 16, 16), (0, 4, 1),
    ],
)  # fmt: skip
def test_number_of_lanes(batch_size: int, threads: int, expected: int):
    assert num_lanes(batch_size, threads) == expected


def test_rows_threads_and_modes():
    seen: list[tuple[int, int, bool, bool, str]] = []
    together = threading.Barrier(4, timeout=30)

    def double(rows: Tensor) -> Tensor:
        together.wait()  # passes only if all four run at once
        mode = (torch.is_inference_mode_enabled(), torch.is_grad_enabled())
        seen.append((len(rows), torch.get_num_threads(), *mode, threading.current_thread().name))
        return rows * 2

    batch = torch.arange(64.0).reshape(32, 2)
    for inference in (False, True):
        seen.clear()
        with torch.inference_mode(inference):
            doubled = in_lanes(double, batch)
        assert torch.equal(doubled, batch * 2)
        assert doubled.is_inference() is inference
        assert [row[:4] for row in seen] == [(8, 1, inference, False)] * 4
        assert len({row[4] for row in seen}) == 4
        assert torch.get_num_threads() == 4


def test_an_error_in_a_lane_is_raised_and_threads_are_as_before():
    def fail(rows: Tensor) -> Tensor:
        raise ValueError(f"{len(rows)} rows")

    with pytest.raises(ValueError, match="8 rows"):
        in_lanes(fail, torch.zeros(32, 1))
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_do_not_depend_on_lanes(precision: str, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    backbone = FrozenBackbone("test_efficientnet", pretrained=False, precision=precision)
    backbone.optimize_for(torch.device("cpu"))
    images = torch.randint(0, 256, (32, 3, backbone.image_size, backbone.image_size), dtype=torch.uint8)
    threads: set[str] = set()
    handle = backbone.pooling.register_forward_hook(lambda *_: threads.add(threading.current_thread().name))
    rows = backbone(images)
    assert len(threads) == 4
    handle.remove()
    same = images.clone()
    same[16:] = same[:16]
    halves = backbone(same)
    assert torch.equal(halves[16:], halves[:16])  # a row does not depend on its place
    torch.set_num_threads(1)
    assert torch.allclose(backbone(images), rows, rtol=0.02 if precision == "bfloat16" else 1e-4, atol=1e-2)


def test_gradients_and_autocast_take_no_lanes():
    backbone = FrozenBackbone("test_efficientnet", pretrained=False, precision="float32", unfreeze=1)
    backbone.optimize_for(torch.device("cpu"))
    images = torch.zeros(16, 3, backbone.image_size, backbone.image_size, dtype=torch.uint8)
    assert backbone(images).requires_grad
    frozen = FrozenBackbone("test_efficientnet", pretrained=False, precision="float32")
    dtypes: set[torch.dtype] = set()
    convolution = next(module for module in frozen.network.modules() if isinstance(module, nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frozen(images)
    assert dtypes == {torch.bfloat16}
