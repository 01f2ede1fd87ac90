"""Many heads at once: a search over the settings of head, loss and optimizer."""
