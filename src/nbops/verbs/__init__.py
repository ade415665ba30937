"""Floor 7: one function per verb, shared by `%mlops` and `nbops`: parse, call the public API, return the value."""
