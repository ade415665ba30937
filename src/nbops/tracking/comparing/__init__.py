"""Many runs at once: curves, parallel coordinates, importance, the difference against production."""
