"""Tar shards: found, indexed once, and then read by byte ranges."""
