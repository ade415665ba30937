"""Runs from other tools and to them."""
