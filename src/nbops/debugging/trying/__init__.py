"""Remedies tried before they are advised: the cell runs again for some steps, with each patch, in a forked child."""
