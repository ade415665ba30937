"""Several tables side by side, feature by feature, the most different ones first."""
