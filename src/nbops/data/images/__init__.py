"""Folders of pictures as tables: one row a file, with what was measured of it."""
