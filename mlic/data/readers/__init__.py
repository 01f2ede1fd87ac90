"""Readers of annotation formats, one per file; each returns a `LabelTable`. `conf/data/` names them."""
