"""Makers of patches, by theme: what the remedy of a cause looks like in the user's own lines."""
