"""Rules that read the code that trains: its loops, the order of what they do, and what the names in them hold."""
