"""Optional parts of a report that require torch: activation maps, and galleries in TensorBoard."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from mlic.data.images import BadImageError
from mlic.errors import InputError
from mlic.evaluation.metrics import known_labels
from mlic.figures import image_sheet, report_style
from mlic.inference.activation_maps import ActivationMaps
from mlic.inference.classifier import Classifier
from mlic.report.comparison import predictions_of
from mlic.report.photographs import GALLERIES, describe, map_label, source_of
from mlic.report.reading import ReportedRun
from mlic.report.thumbnails import PIXELS, data_uri
from mlic.training.tensorboard import LAST, write_summaries


def draw_maps(
    run: ReportedRun, rows: Iterable[int], packages: Sequence[str] = ()
) -> dict[int, tuple[str, str]]:
    """Draw the map of the most confident wrong label of photographs, else of the most confident right one.

    If the backbone is not available, the result is empty and the run gets a note.

    Args:
        run: a run with a checkpoint.
        rows: rows of its test predictions.
        packages: see `Classifier.load`.

    Returns:
        `data:` address and label by row.
    """
    try:
        maps = ActivationMaps(Classifier.load(run.path, device="cpu", packages=packages))
    except InputError as error:
        run.notes.append(f"no activation maps: {error}")
        return {}
    drawn, source = {}, source_of(run)
    for row in rows:
        path, label = source.reference(str(predictions_of(run).file_names[row])), map_label(run, row)
        if path is not None and label is not None:
            with suppress(BadImageError):  # the page shows a gap
                image = maps.overlay(path, label)
                image.thumbnail((PIXELS, PIXELS))
                drawn[row] = data_uri(image), label
    return drawn


def export_run(run: ReportedRun, galleries: Mapping[str, Sequence[int]]) -> None:
    """Write precision-recall curves and galleries to `<run>/events...compare`, and replace those of an earlier report.

    Args:
        run: a run with test predictions.
        galleries: result of `choose_rows`.
    """
    test, source = predictions_of(run), source_of(run)
    columns = map(known_labels, test.scores.T, test.targets.T)
    curves = {f"test/{name}": own for name, own in zip(test.classes, columns, strict=True) if own[1].any()}
    with report_style():
        figures = {
            f"{LAST}galleries/{key}": image_sheet(
                [(source.thumbnail(str(test.file_names[row])), describe(run, row)) for row in rows],
                title=GALLERIES[key][0],
            )
            for key, rows in galleries.items()
        }
        write_summaries(run.path, ".compare", curves, figures)
