"""Tar shards as folders of images: listed, indexed once, and then read by ranges. Imports no torch."""
