"""How rules are learned: trials on parts of a healthy table, and what each kind of rule makes of them."""
