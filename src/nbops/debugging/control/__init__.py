"""Looking into a training and changing it while it runs: breakpoints, functions on layers, commands."""
