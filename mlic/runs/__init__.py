"""The run folder and its status."""
