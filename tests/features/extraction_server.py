"""Extracts in processes of their own, which a test may kill; not a test itself.

Reads a JSON object a line: folder of images, folder of stores, file for the result, and options of
`extract_features`. Forks a process for each, so that the imports are paid once, and prints its id. With an
object as its argument, it does that one alone.
"""

import json
import logging
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from mlic.features import extract_features
from mlic.models.backbone import FrozenBackbone

NETWORK = "test_efficientnet.r160_in1k"


def run(job: dict[str, Any]) -> None:
    """One extraction; the result file gets what it found, and a byte in `<result>.batches` for each batch."""
    logging.basicConfig(filename=f"{job['result']}.log", level=logging.INFO, force=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    backbone = FrozenBackbone(
        NETWORK, pretrained=False, image_size=64, precision=job.get("precision", "float32")
    )
    batches = os.open(f"{job['result']}.batches", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    backbone.optimize_for(torch.device("cpu"))
    backbone.register_forward_hook(lambda *_: _note(batches, job.get("batch_seconds", 0.0)))
    paths = sorted(Path(job["images"]).iterdir())
    result = extract_features(backbone, paths, directory=job["features"], **job["options"])
    found = {
        "found": result.found,
        "computed": result.computed,
        "folder": str(result.folder),
        "digests": [digest.decode() for digest in result.digests.tolist()],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    name = f"{job['result']}.{os.environ.get('LOCAL_RANK', '0')}"
    Path(f"{name}.part").write_text(json.dumps(found))
    os.replace(f"{name}.part", name)


def _note(batches: int, seconds: float) -> None:
    os.write(batches, b"x")
    time.sleep(seconds)


def serve() -> None:
    """Fork a process for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                run(json.loads(line))
            finally:
                os._exit(0)
        print(process, flush=True)


if __name__ == "__main__":
    run(json.loads(sys.argv[1])) if len(sys.argv) > 1 else serve()
