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


def test_reads_a_folder_and_its_checkpoint_alike(tiny_run: Path):
    by_folder, by_file = read_saved_run(tiny_run), read_saved_run(tiny_run / "checkpoints" / "best.ckpt")
    assert by_folder.checkpoint == by_file.checkpoint
    assert by_folder.folder == by_file.folder == tiny_run
    assert by_folder.classes == ("circle", "cross", "square", "triangle")
    assert set(by_folder.head_state) == {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert by_folder.thresholds == json.loads((tiny_run / "thresholds.json").read_text())
    last = read_saved_run(tiny_run / "checkpoints" / "last.ckpt")
    assert last.thresholds is None and last.class_weights is None


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"run: '.*absent' does not exist"):
        read_saved_run(tmp_path / "absent")
    failed = {"state": "failed", "error": {"message": "the loss became nan"}}
    (tmp_path / "status.json").write_text(json.dumps(failed))
    with pytest.raises(
        InputError, match=r"(?s)has no checkpoints/best\.ckpt.*'failed' \(the loss became nan\)"
    ):
        read_saved_run(tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    file = tmp_path / "best.ckpt"
    for other in ([1, 2], {"state_dict": {}}):
        torch.save(other, file)
        with pytest.raises(InputError, match=r"is not a checkpoint of mlic\.train"):
            read_saved_run(file)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no list of class names": lambda content: content["mlic"].update(classes=[]),
    "weights of other parts than head and backbone: other": lambda content: content["state_dict"].update(
        {"other.conv": torch.zeros(1)}
    ),
    "weights that are not tensors": lambda content: content["state_dict"].update({"head.2.bias": None}),
    "one finite number for each class": lambda content: content["mlic"]["thresholds"]["per_class"].popitem(),
    "3 class weights for 4 classes": lambda content: content["mlic"]["class_weights"].pop(),
    "no digest of the weights of the backbone": lambda content: content["mlic"].update(weights_digest=None),
    "its seed=-1: expected a whole number": lambda content: content["mlic"]["config"].update(seed=-1),
    "no section 'head'": lambda content: content["mlic"]["config"].update(head=None),
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

    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", only_shapes)
    saved = read_saved_run(
        changed_checkpoint(lambda content: content["mlic"]["config"]["head"].update(hidden=hidden))
    )
    unfit = (
        r"changed\.ckpt': the weights do not fit its own config \(.* expected \(|settings of the checkpoint"
    )
    with pytest.raises(InputError, match=unfit):
        make_head(saved, (saved.head_state["2.weight"].shape[1],))
