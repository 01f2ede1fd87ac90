"""Tar shards as folders of images: found, indexed once, and then read by ranges of bytes."""
