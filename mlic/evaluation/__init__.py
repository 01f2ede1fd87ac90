"""Metrics, thresholds, calibration, intervals and errors, from scores and targets alone: no torch."""
