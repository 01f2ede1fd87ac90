import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlic.errors import InputError
from mlic.inference.checkpoint import read_saved_run
from mlic.inference.classifier import Classifier
from mlic.inference.loading import make_head

Change = Callable[[Callable[[dict[str, Any]], Any]], Path]


def test_reads_a_folder_and_its_checkpoint_alike(tiny_run: Path, tmp_path: Path):
    by_folder, by_file = read_saved_run(tiny_run), read_saved_run(tiny_run / "checkpoints" / "best.ckpt")
    assert by_folder.checkpoint == by_file.checkpoint and by_folder.folder == by_file.folder == tiny_run
    assert by_folder.classes == ("circle", "cross", "square", "triangle")
    assert set(by_folder.head_state) == {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert by_folder.thresholds == json.loads((tiny_run / "thresholds.json").read_text())
    last = read_saved_run(tiny_run / "checkpoints" / "last.ckpt")
    assert last.thresholds is None and last.class_weights is None
    with pytest.raises(InputError, match=r"run: '.*absent' does not exist"):
        read_saved_run(tmp_path / "absent")
    failed = {"state": "failed", "error": {"message": "the loss became nan"}}
    (tmp_path / "status.json").write_text(json.dumps(failed))
    with pytest.raises(InputError, match=r"no checkpoints/best\.ckpt \(state: failed, the loss became nan\)"):
        read_saved_run(tmp_path)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "KeyError": lambda content: content.pop("mlic"),
    "invalid class names": lambda content: content["mlic"].update(classes=[]),
    "invalid weights": lambda content: content["state_dict"].update({"other.conv": torch.zeros(1)}),
    "invalid .*weights": lambda content: content["state_dict"].update({"head.2.bias": None}),
    "KeyError..triangle": lambda content: content["mlic"]["thresholds"]["per_class"].popitem(),
    "invalid class weights": lambda content: content["mlic"]["class_weights"].pop(),
    "invalid config": lambda content: content["mlic"]["config"].update(head=None),
    "its seed=-1: expected a whole number": lambda content: content["mlic"]["config"].update(seed=-1),
    "AttributeError": lambda content: content["mlic"]["seen"].update(train=[1, 2]),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_changed_checkpoint_is_refused(message: str, changed_checkpoint: Change):
    with pytest.raises(InputError, match=message):
        read_saved_run(changed_checkpoint(CHANGES[message]))


@pytest.mark.parametrize("section", ["head", "model"])
def test_a_checkpoint_cannot_name_what_to_call(section: str, changed_checkpoint: Change, tmp_path: Path):
    bad = {"_target_": "os.mkdir", "path": str(tmp_path / "trap")}
    given = bad if section == "head" else {"backbone": bad}
    file = changed_checkpoint(lambda content: content["mlic"]["config"].update({section: given}))
    with pytest.raises(InputError, match=r"uses 'os\.mkdir' in its network"):
        Classifier.load(file, device="cpu")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("hidden", [[5], [10**9], [10**12, 10**12], [16, 16]])
def test_a_checkpoint_cannot_ask_for_a_larger_head_than_it_holds(
    hidden: list[int], changed_checkpoint: Change, monkeypatch: pytest.MonkeyPatch
):
    def only_shapes(self: torch.nn.Linear) -> None:
        assert self.weight.is_meta, "took memory"

    file = changed_checkpoint(lambda content: content["mlic"]["config"]["head"].update(hidden=hidden))
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", only_shapes)
    saved = read_saved_run(file)
    with pytest.raises(
        InputError, match=r"weights do not fit its own config|settings of the checkpoint do not"
    ):
        make_head(saved, (saved.head_state["2.weight"].shape[1],))
