"""Near duplicates that the split would divide are findings, with a table and a sheet."""

import logging

import numpy as np
import pandas as pd
from PIL import Image

from mlic.config import compose
from mlic.verify import verify


def test_divided_pairs_are_findings(tmp_path, tiny_labels, tiny_arguments, caplog):
    random = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    rows = []
    for name, labels in list(tiny_labels.items())[:40]:
        coarse = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
        for quality in (88, 95):
            image.save(images / f"{name[:-4]}_{quality}.jpg", quality=quality)
            rows.append({"file_name": f"{name[:-4]}_{quality}.jpg", "labels": "|".join(labels)})
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    network = [
        word
        for word in tiny_arguments
        if word.startswith(("data=", "data.split", "data.num", "trainer="))
        or (word.startswith("model") and "recipe" not in word)
    ]
    arguments = (
        *network, f"data.annotations={tmp_path / 'labels.csv'}", f"data.images={images}", "near_duplicates=true",
        "features.num_workers=0", f"features.dir={tmp_path / 'store'}",
    )  # fmt: skip

    def check(*overrides: str) -> tuple[list[tuple[str, str]], pd.DataFrame]:
        output = tmp_path / "verified"
        findings = verify(compose(*arguments, *overrides, output=output, config_name="verify")).findings
        with Image.open(output / "near_duplicates.png") as sheet:
            assert min(sheet.size) > 300
        pairs = pd.read_csv(output / "near_duplicates.csv")
        return [(each.file_name, each.same_as) for each in findings if each.kind == "near_duplicate"], pairs

    with caplog.at_level(logging.INFO):
        found, pairs = check()
    assert f"    {found[0][0]} ≈ {found[0][1]}: " in caplog.text
    assert (pairs["file_name"].str.rpartition("_")[0] == pairs["near"].str.rpartition("_")[0]).all()
    assert len(pairs) == 40 and set(pairs["same_labels"]) == {1}
    divided = pairs[pairs["part"] != pairs["near_part"]]
    assert 0 < len(divided) < 40
    assert sorted(found) == sorted(zip(divided["file_name"], divided["near"], strict=True))
    assert check("data.split.groups.by=duplicates")[0] == []
