"""Floor 2: watching a training loop. Watches, what they measure, the rules that judge it, and the guard."""
