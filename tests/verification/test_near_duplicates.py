"""Near duplicates that the split would divide are findings, with a table and their pictures."""

import numpy as np
import pandas as pd
from PIL import Image

from mlic.config import compose
from mlic.verify import verify


def test_divided_pairs_are_findings(tmp_path, tiny_labels, tiny_settings):
    random, images = np.random.default_rng(0), tmp_path / "images"
    images.mkdir()
    lines = ["file_name,labels"]
    for name, labels in list(tiny_labels.items())[:40]:
        coarse = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
        for quality in (88, 95):
            image.save(images / f"{name[:-4]}_{quality}.jpg", quality=quality)
            lines.append(f"{name[:-4]}_{quality}.jpg,{'|'.join(labels)}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    settings = [word for word in tiny_settings if "recipe" not in word and "batch_size" not in word]
    arguments = (
        "data=csv", *settings, f"data.annotations={tmp_path / 'labels.csv'}", f"data.images={images}",
        "near_duplicates=true", "features.num_workers=0", f"features.dir={tmp_path / 'store'}",
    )  # fmt: skip

    def check(*overrides: str) -> tuple[list[tuple[str, str]], pd.DataFrame]:
        output = tmp_path / "verified"
        found = verify(compose(*arguments, *overrides, output=output, config_name="verify")).problems()
        found = found[found["kind"] == "near_duplicate"]
        pairs = pd.read_csv(output / "near_duplicates.csv")
        assert (output / "index.html").read_text().count('<div class="pair">') == min(24, len(found))
        return list(zip(found["file_name"], found["same_as"], strict=True)), pairs

    found, pairs = check()
    assert (pairs["file_name"].str.rpartition("_")[0] == pairs["near"].str.rpartition("_")[0]).all()
    assert len(pairs) == 40 and set(pairs["same_labels"]) == {1}
    divided = pairs[pairs["part"] != pairs["near_part"]]
    assert 0 < len(divided) < 40
    assert sorted(found) == sorted(zip(divided["file_name"], divided["near"], strict=True))
    assert check("data.split.groups.by=duplicates")[0] == []
