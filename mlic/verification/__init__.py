"""What is wrong with a data set: bad images, duplicates, gaps, rare classes, labels that are probably wrong."""
