"""Profiles of tables: figures of each column, what its values mean, how columns go together, merging and reading."""
