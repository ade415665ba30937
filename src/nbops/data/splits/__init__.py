"""Splits of data: which side a row falls on, the proof of it, and test sets that are sealed."""
