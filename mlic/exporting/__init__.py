"""Export of a run to one file, and the proof that its scores are those of the run."""
