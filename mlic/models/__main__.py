"""List the networks of `model=...`: `python -m mlic.models`."""

import re
import sys
from argparse import ArgumentParser
from pathlib import Path

from mlic.config import CONFIG_DIR

# the header of the files in conf/model
FIGURES = re.compile(
    r"# (?P<M>[\d.]+) M parameters, (?P<pixels>\d+) px, (?P<GMACs>[\d.]+) GMACs .*?, (?P<features>\d+) features, .*\n"
    r"# .*Licence of the weights: (?P<licence>\S+)\n"
)
END = """
M: million parameters; features: of one image, two bytes each on the disk; here: the weights are on this disk, others
are downloaded from the Hugging Face hub on first use.
Any other timm network:  model=timm model.backbone.name=resnet50.a1_in1k
Several side by side:    model=ensemble (conf/model/ensemble.yaml)"""


def main() -> None:
    """Print a table of the networks, the cheapest first."""
    description = "List the networks of model=... in order of their work."
    ArgumentParser("mlic models", description=description).parse_args()
    print("mlic models: loading ...", file=sys.stderr, flush=True)
    import pandas as pd
    import yaml

    from mlic.models.weights import are_at_hand  # imports torch and timm, for which --help does not wait

    rows: list[dict[str, str]] = []
    for path in sorted((Path(CONFIG_DIR) / "model").glob("[!_]*.yaml")):
        text = path.read_text()
        if found := FIGURES.search(text):
            name = yaml.safe_load(text)["backbone"]["name"]
            here = "yes" if are_at_hand(name) else "-"
            rows.append({"model": path.stem, **found.groupdict(), "here": here, "weights": name})
    rows.sort(key=lambda row: float(row["GMACs"]))
    print(pd.DataFrame(rows).to_string(index=False), END, sep="\n")


if __name__ == "__main__":
    main()
