"""Checks of a data set: bad images, duplicates, missing files, rare classes, labels that are probably wrong."""
