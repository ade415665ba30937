"""Sick programs, one file per family."""
