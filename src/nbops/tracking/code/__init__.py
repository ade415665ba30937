"""What executed cells say: names, order, repetition; whether a run would come out again, and how two runs differ."""
