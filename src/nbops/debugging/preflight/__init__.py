"""Checks of a model, a batch, a loss and an optimizer before the first training step; nothing of the user changes."""
