"""Run folders: layout, status, locks and signals."""
