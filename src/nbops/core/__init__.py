"""Floor 0: values and rules of the game. No I/O, no threads; standard library and msgspec only."""
