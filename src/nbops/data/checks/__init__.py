"""The data checks that ship: one file each, a plain decorated function with its thresholds as keywords."""
