"""Folders of files as datasets."""
