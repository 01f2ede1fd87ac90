"""Export of precision-recall curves and galleries to the TensorBoard folder of a run."""

from collections.abc import Mapping, Sequence

from mlic.evaluation.metrics import known_labels
from mlic.figures import image_sheet, report_style
from mlic.report.comparison import predictions_of
from mlic.report.galleries import GALLERIES, describe
from mlic.report.photographs import source_of
from mlic.report.reading import ReportedRun
from mlic.training.tensorboard import LAST, write_summaries


def export_run(run: ReportedRun, galleries: Mapping[str, Sequence[int]]) -> None:
    """Write `<run>/events...compare`, and replace the file of an earlier report.

    Args:
        run: a run with test predictions whose scores are probabilities.
        galleries: result of `choose_rows`.
    """
    test, source = predictions_of(run), source_of(run)
    columns = map(known_labels, test.scores.T, test.targets.T)
    curves = {
        f"test/{name}": (scores, targets)
        for name, (scores, targets) in zip(test.classes, columns, strict=True)
        if targets.any()
    }
    with report_style():
        figures = {
            f"{LAST}galleries/{key}": image_sheet(
                [(source.thumbnail(str(test.file_names[row])), describe(run, row)) for row in rows],
                title=GALLERIES[key][0],
            )
            for key, rows in galleries.items()
        }
        write_summaries(run.path, ".compare", curves, figures)
