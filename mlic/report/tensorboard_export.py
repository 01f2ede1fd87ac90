"""Precision-recall curves of each class and galleries into a run's TensorBoard folder. Imports torch."""

from collections.abc import Sequence

from torch.utils.tensorboard import SummaryWriter

from mlic.figures import report_style
from mlic.report.comparison import predictions_of
from mlic.report.galleries import Gallery
from mlic.report.gallery_figures import gallery_figure
from mlic.report.reading import ReportedRun
from mlic.report.thumbnails import Thumbnails

SUFFIX = ".compare"


def export_run(run: ReportedRun, galleries: Sequence[Gallery], thumbnails: Thumbnails) -> None:
    """Write `<run>/tensorboard/events...compare`, in place of what an earlier report wrote there.

    Args:
        run: with test predictions whose scores are probabilities.
        galleries: as of `build_galleries`.
        thumbnails: of its photographs.
    """
    folder = run.path / "tensorboard"
    for earlier in folder.glob(f"events.*{SUFFIX}"):
        earlier.unlink()
    test = predictions_of(run)
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for name, scores, targets in zip(test.classes, test.scores.T, test.targets.T, strict=True):
            if targets.any():
                writer.add_pr_curve(f"test/{name}", targets, scores)
        with report_style():
            for gallery in galleries:
                writer.add_figure(f"test/{gallery.key}", gallery_figure(gallery, thumbnails))
