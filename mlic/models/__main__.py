"""List the networks of `model=...`, `python -m mlic.models`, or draw one: `... vgg16 --output vgg16.png`."""

import re
import sys
from argparse import ArgumentParser
from pathlib import Path

from mlic.config import CONFIG_DIR

FILES = sorted((Path(CONFIG_DIR) / "model").glob("[!_]*.yaml"))
# the header of the files in conf/model
FIGURES = re.compile(
    r"# (?P<M>[\d.]+) M parameters, (?P<pixels>\d+) px, (?P<GMACs>[\d.]+) GMACs .*?, (?P<features>\d+) features, .*\n"
    r"# .*Licence of the weights: (?P<licence>\S+)\n"
)
END = """
M: million parameters; features: of one image, two bytes each on the disk; here: the weights are on this disk, others
are downloaded from the Hugging Face hub on first use.
Any other timm network:  model=timm model.backbone.name=resnet50.a1_in1k
Several side by side:    model=ensemble (conf/model/ensemble.yaml)
A drawing of a network:  mlic models vgg16 --output vgg16.png"""
CLASSES = 51  # of a drawing: those of the original report


def main() -> None:
    """Print a table of the networks, the cheapest first, or draw one with its head."""
    description = "List the networks of model=... in order of their work, or draw one with its head."
    parser = ArgumentParser("mlic models", description=description)
    choices = sorted({path.stem for path in FILES} - {"timm", "ensemble"})
    parser.add_argument(
        "model", nargs="?", choices=choices, metavar="model", help="network to draw, such as vgg16"
    )
    parser.add_argument("--output", help="file of the drawing, .png or .svg")
    options = parser.parse_args()
    if (options.model is None) != (options.output is None):
        parser.error("a drawing needs both: mlic models vgg16 --output vgg16.png")
    print("mlic models: loading ...", file=sys.stderr, flush=True)
    if options.model is not None:
        from mlic.models.structure import (
            draw_structure,
        )  # imports torch and timm, for which --help does not wait

        draw_structure(options.model, Path(options.output), CLASSES)
        return
    import pandas as pd
    import yaml

    from mlic.models.weights import are_at_hand

    rows: list[dict[str, str]] = []
    for path in FILES:
        text = path.read_text()
        if found := FIGURES.search(text):
            name = yaml.safe_load(text)["backbone"]["name"]
            here = "yes" if are_at_hand(name) else "-"
            rows.append({"model": path.stem, **found.groupdict(), "here": here, "weights": name})
    rows.sort(key=lambda row: float(row["GMACs"]))
    print(pd.DataFrame(rows).to_string(index=False), END, sep="\n")


if __name__ == "__main__":
    main()
