"""Search over the settings of head, loss and optimizer, with many heads trained at once."""
