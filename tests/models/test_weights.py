from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mlic.errors import InputError
from mlic.models import FrozenBackbone, weights
from mlic.models.weights import load_network

TINY = "test_efficientnet"  # timm's own test network, 360 kB


def test_packaged_weights_are_loaded_without_network():
    network = load_network("tf_efficientnet_lite0.in1k")
    random = load_network("tf_efficientnet_lite0.in1k", pretrained=False)
    loaded, drawn = network.state_dict(), random.state_dict()
    assert len(network.state_dict()) == 296
    assert not torch.equal(loaded["conv_stem.weight"], drawn["conv_stem.weight"])
    assert not network.training


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 2])
def test_lite_models_name_photographs(size: int, coco_data: Path):
    """ImageNet's indices: 294-297 bears, 340 zebra, 963 pizza, 654/779/874 minibus, school bus, trolleybus."""
    name = f"tf_efficientnet_lite{size}.in1k"
    transform = FrozenBackbone(name, precision="float32")
    network = load_network(name)
    expected = {"bear": {294, 295, 296, 297}, "zebra": {340}, "pizza": {963}, "bus": {654, 779, 874}}
    for label, indices in expected.items():
        files = _photographs_of(label, coco_data)[:8]
        images = torch.stack(
            [torch.as_tensor(transform.transform(Image.open(f).convert("RGB"))) for f in files]
        )
        with torch.inference_mode():
            best = network(transform.normalize(images)).argmax(dim=1).tolist()
        hits = sum(index in indices for index in best)
        assert hits >= len(files) / 2, f"{label}: {best}"


def _photographs_of(label: str, folder: Path) -> list[Path]:
    """Photographs with this label alone."""
    rows = [line.rpartition(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    return [folder / "images" / name for name, _, labels in rows if labels == label]


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_local_file_is_loaded(tmp_path: Path, ending: str):
    source = load_network(TINY, pretrained=False)
    path = tmp_path / f"weights.{ending}"
    state = source.state_dict()
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    loaded = load_network(TINY, weights=path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in state.items())
    assert not loaded.training
    with pytest.raises(InputError, match="does not contain the weights of 'test_resnet'"):
        load_network("test_resnet", weights=path)


def test_unreachable_hub_names_the_three_ways(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    session = type("Session", (), {"head": staticmethod(unreachable)})
    monkeypatch.setattr(weights.huggingface_hub, "get_session", lambda: session)
    monkeypatch.setattr(weights.huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(InputError, match=r"(?s)nasnetalarge.*not known.*1\. a local file") as caught:
        load_network("nasnetalarge.tf_in1k")
    assert all(
        way in str(caught.value) for way in ("model.backbone.weights=", "pip install", "Hugging Face hub")
    )


def test_cached_hub_file_is_used_without_asking_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "model.safetensors"
    state = load_network("test_resnet", pretrained=False).state_dict()
    save_file(state, path)
    monkeypatch.setattr(weights.huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    monkeypatch.setattr(weights.huggingface_hub, "get_session", lambda: pytest.fail("asked the hub"))
    loaded = load_network("test_resnet.r160_in1k")
    assert torch.equal(loaded.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
