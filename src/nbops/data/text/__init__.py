"""Columns of running text: what they are written in, and what came into them by accident."""
