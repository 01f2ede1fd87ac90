"""Class activation maps of the photographs in a gallery. Imports torch, through the classifier."""

from collections.abc import Sequence
from dataclasses import replace

from mlic.errors import InputError
from mlic.inference.activation_maps import ActivationMaps
from mlic.inference.classifier import Classifier
from mlic.report.galleries import Gallery, Photograph
from mlic.report.reading import ReportedRun
from mlic.report.thumbnails import Thumbnails, as_data_uri, to_jpeg


def add_activation_maps(
    run: ReportedRun, galleries: Sequence[Gallery], thumbnails: Thumbnails, packages: Sequence[str] = ()
) -> list[Gallery]:
    """Add a map to each photograph, of its most confident wrong label, else of its most confident right label.

    If the backbone is not available, the galleries are returned unchanged and the run gets a note.

    Args:
        run: a run with a checkpoint.
        galleries: result of `build_galleries`.
        thumbnails: thumbnails of the photographs of the run.
        packages: see `Classifier.load`.
    """
    try:
        maps = ActivationMaps(Classifier.load(run.path, device="cpu", packages=packages))
    except InputError as error:
        run.notes.append(f"no activation maps: {error}")
        return list(galleries)
    return [
        replace(gallery, photographs=[_with_map(item, maps, thumbnails) for item in gallery.photographs])
        for gallery in galleries
    ]


def shown_label(photograph: Photograph) -> str | None:
    """Return the most confident wrong label (predicted or missed), else the most confident right one, or None."""
    wrong = [(label.score, label.name) for label in photograph.predicted if not label.good]
    wrong += [(1 - label.score, label.name) for label in photograph.true if not label.good]
    right = [(label.score, label.name) for label in photograph.predicted if label.good]
    return max(wrong or right or [(0.0, None)], key=lambda item: item[0])[1]


def _with_map(photograph: Photograph, maps: ActivationMaps, thumbnails: Thumbnails) -> Photograph:
    path, label = thumbnails.reference(photograph.file_name), shown_label(photograph)
    if path is None or label is None or photograph.image is None:
        return photograph
    image = maps.overlay(path, label)
    image.thumbnail((thumbnails.pixels, thumbnails.pixels))
    return replace(photograph, map_image=as_data_uri(to_jpeg(image)), map_label=label)
