"""Rows seen through four of their columns: counted in cells, sampled as points, and listed."""
