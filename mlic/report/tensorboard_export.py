"""Export of precision-recall curves and galleries to the TensorBoard folder of a run. Imports torch."""

from collections.abc import Sequence

from torch.utils.tensorboard import SummaryWriter

from mlic.evaluation.metrics import known_labels
from mlic.figures import report_style
from mlic.report.comparison import predictions_of
from mlic.report.galleries import Gallery
from mlic.report.gallery_figures import gallery_figure
from mlic.report.reading import ReportedRun
from mlic.report.thumbnails import Thumbnails

SUFFIX = ".compare"


def export_run(run: ReportedRun, galleries: Sequence[Gallery], thumbnails: Thumbnails) -> None:
    """Write `<run>/tensorboard/events...compare`, and replace the file of an earlier report.

    Args:
        run: a run with test predictions whose scores are probabilities.
        galleries: result of `build_galleries`.
        thumbnails: thumbnails of the photographs of the run.
    """
    folder = run.path / "tensorboard"
    for earlier in folder.glob(f"events.*{SUFFIX}"):
        earlier.unlink()
    test = predictions_of(run)
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        columns = map(known_labels, test.scores.T, test.targets.T)
        for name, (scores, targets) in zip(test.classes, columns, strict=True):
            if targets.any():
                writer.add_pr_curve(f"test/{name}", targets, scores)
        with report_style():
            for gallery in galleries:
                writer.add_figure(f"test/{gallery.key}", gallery_figure(gallery, thumbnails))
