"""A run on images in several folders, in every command."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from mlic.compare import compare
from mlic.config import compose
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.report.thumbnails import ImageFolders, image_folders
from mlic.train import train
from mlic.verify import verify


@pytest.mark.slow
def test_every_command_reads_several_folders(
    tiny_coco: tuple[Path, Path],
    tiny_settings: tuple[str, ...],
    tmp_path: Path,
):
    annotations, images = tiny_coco
    for number, file in enumerate(sorted(images.iterdir())):
        part = tmp_path / f"images_{number % 2}" / "images"
        part.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, part)
    (tmp_path / "images_1" / "images" / "shapes_01.jpg").write_bytes(b"")
    data = ["data=coco", f"data.annotations={annotations}", f"data.images='{tmp_path}/images_*/images'"]
    options = [*data, "data.on_bad_image=drop"]
    settings = (*tiny_settings, "trainer.max_epochs=1", "features.num_workers=0")
    run, store = tmp_path / "run", f"features.dir={tmp_path / 'store'}"
    results = train(compose(*settings, *options, store, output=run))
    dataset = json.loads((run / "dataset.json").read_text())
    assert dataset["source"]["images"] == [
        str(tmp_path / f"images_{number}" / "images") for number in range(2)
    ]
    assert [Path(path).name for path in dataset["bad_images"]] == ["shapes_01.jpg"]
    assert pd.read_csv(run / "split.csv")["file_name"].tolist()[:2] == ["shapes_00.jpg", "shapes_02.jpg"]

    source = ImageFolders(image_folders(dataset))
    assert source.thumbnail("shapes_02.jpg") and source.thumbnail("shapes_03.jpg")
    assert source.thumbnail("../../secret.jpg") is None
    page = compare(compose(f"runs='{run}'", "resamples=2", output=tmp_path / "report", config_name="compare"))
    assert "data:image/webp" in page.read_text()

    scored = compose(
        "device=cpu",
        "num_workers=0",
        f"run='{run}'",
        "part=test",
        output=tmp_path / "own",
        config_name="evaluate",
    )
    assert evaluate(scored)["test"] == results["test"]
    listed = f"data.images=[{tmp_path}/images_0/images,{tmp_path}/images_1/images]"
    written = (run / "metrics.json").stat().st_mtime_ns
    again = train(
        compose(*settings, *data[:2], listed, "data.on_bad_image=drop", store, "resume=auto", output=run)
    )
    assert again == results and (run / "metrics.json").stat().st_mtime_ns == written  # skipped, as finished

    (tmp_path / "images_0" / "images" / "more.jpg").touch()
    verify(compose(*data, output=tmp_path / "verified", config_name="verify"))
    problems = pd.read_csv(tmp_path / "verified" / "problems.csv")
    assert {"more.jpg", "shapes_01.jpg"} <= set(problems["file_name"])
    shutil.copy(images / "shapes_00.jpg", tmp_path / "images_1" / "images")
    with pytest.raises(InputError, match=r"'shapes_00\.jpg' is in .* and in .* \(names in both: 1\)"):
        train(compose(*settings, *options, store, output=tmp_path / "twice"))
