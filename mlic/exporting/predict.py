"""Label photographs with an exported model:  python predict.py model.onnx photos/ predictions.csv.

Requires numpy, Pillow and onnxruntime. Written by mlic.export, which also copies this file beside the model.
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

Image.init()
RASTER = "JPEG PNG GIF BMP DIB WEBP TIFF PPM JPEG2000 AVIF TGA ICO PCX"  # no PostScript, which runs code
FORMATS = [name for name in RASTER.split() if name in Image.OPEN]
SUFFIXES = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
SUFFIXES |= {".avif", ".heic", ".heif", ".jxl"}  # rows with an error, if Pillow cannot read them
LONGEST_STRIP = 32  # of longer photographs, only the middle is used


def read_image(path: Any, info: dict[str, Any], draft: int | None) -> Image.Image:
    """Decode a photograph to upright RGB; a JPEG at reduced size as long as its short side has `draft` pixels."""
    with Image.open(path, formats=FORMATS) as image:
        if draft:
            image.draft(None, (draft, draft))
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels; expected 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit greyscale
        largest = 2 ** info["bits_stored"] - 1
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        if values.max() > largest:
            raise ValueError(f"its largest value, {values.max()}, exceeds bits_stored={info['bits_stored']}")
        image = Image.fromarray(((values * 255 + largest // 2) // largest).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    image = image.convert("RGB")
    left, top = (max(0, (side - LONGEST_STRIP * min(image.size)) // 2) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def resize(image: Image.Image, plan: dict[str, Any]) -> Image.Image:
    """Resize and crop an image as in training; needed if the model does not do it (`resize` is "outside")."""
    size = plan["size"]
    if len(size) == 1:  # of the short side
        size = [size[0] * side // min(image.size) for side in (image.height, image.width)]
    image = image.resize((size[1], size[0]), Image.Resampling[plan["interpolation"].upper()])
    height, width = plan["crop"]
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def to_array(path: Any, info: dict[str, Any]) -> np.ndarray:
    """Return the input of the model for one photograph, uint8 (1, height, width, 3)."""
    drafts = [plan["draft"] for plan in info["preprocessing"]]
    image = read_image(path, info, max(drafts) if all(drafts) else None)
    return np.asarray(resize(image, info["preprocessing"][0]) if info["resize"] == "outside" else image)[None]


def escape_cell(text: str) -> str:
    """Prepend an apostrophe to text that a spreadsheet would evaluate, such as a file name "=1+1"."""
    return f"'{text}" if text.startswith(("'", "=", "+", "-", "@", "\t", "\r")) else text


def main() -> int:
    """Write one row for each photograph, and return the exit status: 1 if one could not be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    for name in ("model", "images", "output"):
        parser.add_argument(name)
    given = parser.parse_args()
    session: Any = onnxruntime.InferenceSession(given.model, providers=["CPUExecutionProvider"])
    info = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    folder, failed = Path(given.images), 0
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))]
    names = [name for name in names if Path(name).suffix.lower() in SUFFIXES and "/." not in f"/{name}"]
    with open(given.output, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "labels", "error", *(f"score:{name}" for name in info["classes"])])
        for name in names or [""]:  # a single photograph
            path, name = folder / name, escape_cell(name or folder.name)
            try:
                scores = session.run(["scores"], {"images": to_array(path, info)})[0][0].astype(np.float64)
            except Exception as error:  # decoders raise almost anything
                print(ascii(str(path)), error, file=sys.stderr)
                table.writerow([name, "", f"{type(error).__name__}: {error}"])
                failed += 1
                continue
            best = sorted(zip(-scores, info["classes"], info["thresholds"], strict=True))
            labels = "|".join(label for score, label, threshold in best if -score > threshold)
            table.writerow([name, escape_cell(labels), "", *(f"{score:.6f}" for score in scores)])
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
