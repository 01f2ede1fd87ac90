"""Parts of a batch side by side give what the batch gives."""

import threading

import pytest
import torch
from torch import Tensor, nn

from mlic.models import FrozenBackbone
from mlic.models.lanes import in_lanes, num_lanes, rows_in_lanes


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
        (24, 6, 3), (32, 3, 1), (32, 6, 2), (256, 16, 8), (0, 4, 1),
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
            doubled = rows_in_lanes(double, batch)
        assert torch.equal(doubled, batch * 2)
        assert doubled.is_inference() is inference
        assert [row[:4] for row in seen] == [(8, 1, inference, False)] * 4
        assert len({row[4] for row in seen}) == 4
        assert torch.get_num_threads() == 4


def test_an_error_in_a_lane_is_raised_and_threads_are_as_before():
    def fail(rows: Tensor) -> Tensor:
        raise ValueError(f"{len(rows)} rows")

    with pytest.raises(ValueError, match="8 rows"):
        rows_in_lanes(fail, torch.zeros(32, 1))
    assert torch.get_num_threads() == 4


def test_after_an_error_the_others_are_stopped_and_nothing_more_is_begun():
    stop, begun = threading.Event(), []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("item 1")
        assert stop.wait(30)

    with pytest.raises(ValueError, match="item 1"):
        in_lanes(work, range(10), 2, stop)
    assert sorted(begun) == [0, 1]


def test_threads_that_others_begin_meanwhile_have_all_cores():
    seen: list[int] = []

    def work(item: int) -> int:
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        return torch.get_num_threads()

    assert in_lanes(work, range(6), 2) == [2] * 6
    assert seen == [4] * 6
    assert torch.get_num_threads() == 4


def test_one_lane_is_this_thread():
    names = in_lanes(lambda item: (item, threading.current_thread().name), range(3), 1)
    assert names == [(item, threading.current_thread().name) for item in range(3)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_do_not_depend_on_lanes(precision: str, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    backbone = FrozenBackbone("test_efficientnet", pretrained=False, precision=precision)
    backbone.optimize_for(torch.device("cpu"))
    images = torch.randint(0, 256, (32, 3, backbone.image_size, backbone.image_size), dtype=torch.uint8)
    threads: set[str] = set()
    handle = backbone.pooling.register_forward_hook(lambda *_: threads.add(threading.current_thread().name))
    rows = backbone(images)
    assert len(threads) > 1
    handle.remove()
    same = images.clone()
    same[16:] = same[:16]
    halves = backbone(same)
    assert torch.equal(halves[16:], halves[:16])  # a row does not depend on its place
    torch.set_num_threads(1)
    whole = backbone(images)
    assert torch.allclose(whole, rows, rtol=0, atol=1e-6)
    assert not torch.allclose(whole.roll(1, 0), rows, rtol=0, atol=1e-6)  # images differ by more


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
