"""Results of the original project report, shown beside a comparison.

They refer to its own 5,000 COCO images and 51 classes, and are therefore never ranked against runs. Its test AUC is
far below its training AUC, which is only consistent with the area of the 0/1 decisions (`auc_thresholded`).
"""

from dataclasses import dataclass

NOTE = (
    "Rows of the original report refer to another data set (5,000 COCO images, 51 classes) and another "
    "machine; they are not ranked."
)
TEST_NOTE = (
    "Its test AUC is shown as the area of the 0/1 decisions (auc_thresholded), with which it is consistent."
)
TRAINING_NOTE = "Its training AUC is shown as the micro area of the scores, which Keras computes by default."


@dataclass(frozen=True)
class ReferenceRun:
    """One network of the original report; training metrics of the last epoch, seconds on a Colab GPU."""

    network: str
    train_auc: float
    train_precision: float
    train_recall: float
    test_auc: float
    test_precision: float
    test_recall: float
    seconds_an_epoch: float

    @property
    def name(self) -> str:
        """Name in the tables."""
        return f"{self.network} (original report)"


REFERENCES = {
    "report": (
        ReferenceRun("VGG16", 0.9668, 0.8977, 0.8965, 0.6636, 0.6416, 0.4068, 52),
        ReferenceRun("InceptionV3", 0.9890, 0.9185, 0.8939, 0.7713, 0.6457, 0.4797, 29),
        ReferenceRun("ResNet152V2", 0.9879, 0.9288, 0.9126, 0.7630, 0.6292, 0.4988, 87),
        ReferenceRun("NASNetLarge", 0.9883, 0.9552, 0.9484, 0.7506, 0.6631, 0.5196, 169),
    )
}
