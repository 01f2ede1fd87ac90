"""Class activation maps of the photographs in a gallery. Imports torch, through the classifier."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from mlic.data.images import BadImageError
from mlic.errors import InputError
from mlic.inference.activation_maps import ActivationMaps
from mlic.inference.classifier import Classifier
from mlic.report.comparison import predictions_of
from mlic.report.galleries import map_label
from mlic.report.reading import ReportedRun
from mlic.report.thumbnails import PIXELS, ImageFolders, data_uri


def draw_maps(
    run: ReportedRun, rows: Iterable[int], source: ImageFolders, packages: Sequence[str] = ()
) -> dict[int, tuple[str, str]]:
    """Draw the map of the most confident wrong label of photographs, else of the most confident right one.

    If the backbone is not available, the result is empty and the run gets a note.

    Args:
        run: a run with a checkpoint.
        rows: rows of its test predictions.
        source: the photographs of the run.
        packages: see `Classifier.load`.

    Returns:
        `data:` address and label by row.
    """
    try:
        maps = ActivationMaps(Classifier.load(run.path, device="cpu", packages=packages))
    except InputError as error:
        run.notes.append(f"no activation maps: {error}")
        return {}
    drawn = {}
    for row in rows:
        path, label = source.reference(str(predictions_of(run).file_names[row])), map_label(run, row)
        if path is not None and label is not None:
            with suppress(BadImageError):  # the page shows a gap
                image = maps.overlay(path, label)
                image.thumbnail((PIXELS, PIXELS))
                drawn[row] = data_uri(image), label
    return drawn
