"""Images per second of extraction on a GPU, beside its two parts: the bare forward pass and the bare decoder."""

from pathlib import Path
from statistics import median

import torch
from hydra.utils import instantiate
from torch import Tensor

from benchmarks.rows import Row
from benchmarks.setting import Setting, cores
from benchmarks.timing import measured
from mlic.config import compose
from mlic.data.image_dataset import ImageDataset, image_loader
from mlic.features.extraction import extract_features
from mlic.models import FrozenBackbone

BATCH_SIZE = 128
IMAGES = 20_000  # photographs are repeated under other names, because extraction computes each content once
FORWARD_PASSES = 50


def gpu(setting: Setting) -> list[Row]:
    """Measure one network in turns; without a GPU nothing is measured, and a smoke test takes the CPU."""
    if not (torch.cuda.is_available() or setting.quick):
        return []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = compose(*setting.overrides(), output=setting.work / "unused")
    backbone = instantiate(config.model.backbone).to(device).optimize_for(device)
    paths = _copies(setting, setting.choose(IMAGES, 8))
    workers = 0 if setting.quick else max(1, cores() - 1)
    rates: dict[str, list[float]] = {"extraction": [], "decoder": [], "forward": []}
    for repetition in range(setting.choose(3, 1)):
        rates["decoder"].append(_decode(backbone, paths, workers))
        rates["forward"].append(_forward(backbone, device, setting.choose(FORWARD_PASSES, 1)))
        with measured() as clock:
            extract_features(
                backbone,
                paths,
                directory=setting.work / f"gpu_{repetition}",
                draft_size=backbone.resize_size,
                batch_size=BATCH_SIZE,
                num_workers=workers,
                trainer={"accelerator": "gpu" if device.type == "cuda" else "cpu", "devices": 1},
            )
        rates["extraction"].append(len(paths) / clock.wall)
    found = {name: median(values) for name, values in rates.items()}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return [
        Row(
            "extraction on a GPU / the slower of decoder, forward",
            found["extraction"] / min(found["decoder"], found["forward"]),
            target=">= 0.8",
            detail=f"{name}, {backbone.precision}, {workers} workers: extraction {found['extraction']:.0f}, bare "
            f"decoder {found['decoder']:.0f}, bare forward pass {found['forward']:.0f} images/s; {len(paths)} images",
        )
    ]


def _copies(setting: Setting, number: int) -> list[Path]:
    """Write photographs with other bytes after the end of the JPEG, so that each has its own row."""
    originals, folder = setting.photographs(), setting.work / "gpu_images"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{index:06d}.jpg" for index in range(number)]
    for index, path in enumerate(paths):
        path.write_bytes(originals[index % len(originals)].read_bytes() + index.to_bytes(4))
    return paths


def _decode(backbone: FrozenBackbone, paths: list[Path], workers: int) -> float:
    dataset = ImageDataset(paths, backbone.transform, draft_size=backbone.resize_size)
    loader = image_loader(dataset, batch_size=BATCH_SIZE, num_workers=workers, on_cpu=False)
    with measured() as clock:
        for _ in loader:
            pass
    return len(paths) / clock.wall


def _forward(backbone: FrozenBackbone, device: torch.device, passes: int) -> float:
    shape = (BATCH_SIZE, *backbone.preprocessing["input_size"])
    batch = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)

    def wait(features: Tensor) -> None:
        features[0].cpu()  # kernels run asynchronously

    wait(backbone(batch))
    with measured() as clock:
        for _ in range(passes):
            features = backbone(batch)
        wait(features)
    return passes * BATCH_SIZE / clock.wall
