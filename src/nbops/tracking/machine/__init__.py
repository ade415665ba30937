"""CPU, memory and GPUs while a run is open, and what they cost."""
