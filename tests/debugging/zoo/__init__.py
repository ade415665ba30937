"""The proving ground of the debugger: sick programs with their fixed twins, healthy programs, and what judges both.

Run it with ``python -m tests.debugging.zoo --help``. `program` declares, `sick` and `healthy` hold the programs, one
file per family; `running` runs one, `pool` many; `scoring` compares what was found with the truth, `report` prints.
"""
