"""The kinds of rules that a suite is made of; `nbops.data.expect` lists them all."""
