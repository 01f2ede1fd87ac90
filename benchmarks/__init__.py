"""Benchmarks of speed and memory, as ratios within one run: `python -m benchmarks`. Not part of the package."""

from mlic.process_settings import configure_process

# Here, since the modules of this package import torch; they are commands, which measure what users' commands do.
configure_process()
