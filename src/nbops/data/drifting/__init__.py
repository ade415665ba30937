"""Drift: whether current data is still distributed as a reference was, column by column, together, and over time."""
