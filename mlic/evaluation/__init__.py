"""Metrics, thresholds, calibration, intervals and errors, computed from scores and targets without torch."""
