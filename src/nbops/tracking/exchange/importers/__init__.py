"""Importers: one leaf per format in which other tools keep their runs; each only reads."""
