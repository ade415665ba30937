"""Rows as series in time: which rows belong together, in what order, and how far apart they usually are."""
