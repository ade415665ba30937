"""How much memory a training step takes, told before it runs: by fake tensors, without allocating any."""
