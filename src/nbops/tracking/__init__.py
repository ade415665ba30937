"""Floor 2: live runs, what they capture, and reading them back."""
