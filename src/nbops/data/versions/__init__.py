"""Versions of datasets that store only what changed."""
