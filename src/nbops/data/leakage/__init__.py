"""Leaks between what is learned from and what is judged by."""
