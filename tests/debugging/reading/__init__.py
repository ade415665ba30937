"""Rules that read the code that trains."""
