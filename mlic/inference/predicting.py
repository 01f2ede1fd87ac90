"""The work of `mlic.predict`: scores of new photographs, written batch by batch."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mlic.errors import InputError, check_choice
from mlic.evaluation.thresholds import CALIBRATED
from mlic.inference.guarantees import read_thresholds
from mlic.inference.listing import list_images
from mlic.inference.prediction_table import ERROR, RANK, append_rows, prediction_rows
from mlic.inference.prelabels import PreLabels
from mlic.runs.folder import GUARANTEES_FILE, replacing

logger = logging.getLogger(__name__)

ERRORS_SHOWN = 5


def predict_images(
    settings: Mapping[str, Any], table: Path, open_pages: Callable[..., AbstractContextManager[Any]] | None
) -> dict[str, str]:
    """Score images; see `mlic.predict.predict`.

    Args:
        settings: content of `conf/predict.yaml`.
        table: CSV file to write.
        open_pages: `mlic.report.prediction_page.open_pages` for the first page; None for no page.
    """
    is_ranked = settings["rank"] is not None
    if is_ranked:
        check_choice("rank", settings["rank"], ("informative",))
    images, names = list_images(settings["images"])
    if not images:
        raise InputError("images: the list is empty. Expected a folder, files, or a pattern.", key="images")
    write = settings["write"]
    prelabels = PreLabels(write, table.parent, names) if write else None
    from mlic.inference.classifier import Classifier  # imports torch and timm, which takes seconds
    from mlic.inference.ranking import join_ranked

    options = {key: settings[key] for key in ("run", "device", "packages")}
    classifier = Classifier.load(**options, **settings["model"]["backbone"])
    classes, (upper, lower) = classifier.classes, _thresholds(classifier, settings)
    bad: dict[str, str] = {}
    counts, start = Counter[str](), time.perf_counter()
    with ExitStack() as stack:
        try:
            file = stack.enter_context(replacing(table))
        except OSError as error:
            raise InputError(
                f"output: '{table}' cannot be written ({error.strerror}).", key="output"
            ) from error
        limits = {"classes": classes, "upper": upper, "lower": lower}
        title, bits = f"Predictions of {classifier.backbone.name}", classifier.bits_stored
        shown = {"title": title, "table": table.name, "bits_stored": bits, **limits}
        pages = stack.enter_context(open_pages(**shown)) if open_pages else None
        sizes = {"batch_size": settings["batch_size"], "num_workers": settings["num_workers"]}
        scored = classifier.stream(images, names, **sizes, with_vectors=is_ranked)
        batches: Iterable[Any] = _with_progress(scored, len(images))
        for batch in [join_ranked(batches, upper)] if is_ranked else batches:
            rows = prediction_rows(batch, **limits, top_k=settings["top_k"])
            if is_ranked:
                rows.insert(list(rows).index(ERROR) + 1, RANK, np.arange(1, len(rows) + 1))
            append_rows(file, rows)
            if pages:
                pages.append(batch.names, batch.images, batch.scores, batch.errors)
            if prelabels:
                prelabels.append(batch.names, batch.scores, upper, classes)
            bad |= {name: error for name, error in zip(batch.names, batch.errors, strict=True) if error}
            counts.update(_count(batch.scores, upper, lower))
    if prelabels:
        logger.info("predicted labels for other programs written to %s", prelabels.write())
    written = f"{table} and {pages.file}" if pages else table
    logger.info("%d images in %.1f s; written to %s", len(images), time.perf_counter() - start, written)
    _log_summary(counts, bad, len(images) - len(bad), len(classes))
    return bad


def _with_progress(batches: Iterable[Any], total: int) -> Iterator[Any]:
    with tqdm(total=total, unit="image", disable=None, dynamic_ncols=True) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch.names))


def _thresholds(classifier: Any, settings: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the thresholds above which labels are predicted and, with `ask`, those up to which they are absent."""
    setting = settings["thresholds"]
    if not settings["ask"]:
        return classifier.choose_thresholds(setting), None
    file = Path(settings["run"]) / GUARANTEES_FILE if setting == CALIBRATED else Path(str(setting))
    given = (file, classifier.classes, classifier.saved.checkpoint)
    yes, no = (read_thresholds(*given, answer) for answer in ("yes", "no"))
    return yes, np.minimum(no, yes)


def _count(scores: np.ndarray, upper: np.ndarray, lower: np.ndarray | None) -> dict[str, int]:
    chosen = scores > upper
    asked = (scores > lower) & ~chosen if lower is not None else np.zeros_like(chosen)
    counts = {"labels": chosen, "labelled": chosen.any(axis=1), "asked": asked, "open": asked.any(axis=1)}
    return {name: int(found.sum()) for name, found in counts.items()}


def _log_summary(counts: Mapping[str, int], bad: Mapping[str, str], scored: int, classes: int) -> None:
    """Log what was predicted of the images that could be scored, and the first of the others."""
    asked, images = counts["asked"], max(1, scored)
    logger.info(
        "%d images scored: %.2f labels an image, %d images without a label",
        scored,
        counts["labels"] / images,
        scored - counts["labelled"],
    )
    if asked:
        share = 100 * asked / (scored * classes)
        logger.info("to ask: %d labels, %.1f %% of all, in %d images", asked, share, counts["open"])
    if bad:
        listing = "".join(f"\n  {name}: {reason}" for name, reason in list(bad.items())[:ERRORS_SHOWN])
        logger.error("%d of %d images could not be used, such as:%s", len(bad), scored + len(bad), listing)
