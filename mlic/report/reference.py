"""Results of the original project report, shown beside a comparison.

They refer to its own 5,000 COCO images and 51 classes, and are therefore never ranked against runs. Its test AUC is
far below its training AUC, which is only consistent with the area of the 0/1 decisions (`auc_thresholded`).
"""

NOTE = (
    "Rows of the original report refer to another data set (5,000 COCO images, 51 classes) and another machine. Its "
    "AUC is the micro area of the scores in training; on test it can only be the area of the 0/1 decisions."
)
# by table: column of the table, and the value of each network: metrics of the last epoch, seconds on a Colab GPU
_VALUES = {
    "training": {
        "auc_micro": (0.9668, 0.9890, 0.9879, 0.9883),
        "precision_micro": (0.8977, 0.9185, 0.9288, 0.9552),
        "recall_micro": (0.8965, 0.8939, 0.9126, 0.9484),
    },
    "test": {
        "auc_thresholded": (0.6636, 0.7713, 0.7630, 0.7506),
        "precision_micro": (0.6416, 0.6457, 0.6292, 0.6631),
        "recall_micro": (0.4068, 0.4797, 0.4988, 0.5196),
    },
    "times": {"seconds_an_epoch": (52, 29, 87, 169)},
}
_NETWORKS = ("VGG16", "InceptionV3", "ResNet152V2", "NASNetLarge")

Rows = list[dict[str, str | float]]
# by name of the reference and key of the table
REFERENCES: dict[str, dict[str, Rows]] = {
    "report": {
        table: [
            {"run": f"{network} (original report)", **dict(zip(columns, values, strict=True))}
            for network, values in zip(_NETWORKS, zip(*columns.values(), strict=True), strict=True)
        ]
        for table, columns in _VALUES.items()
    }
}
