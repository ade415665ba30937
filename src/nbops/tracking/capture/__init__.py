"""What a run remembers of where it was made: cells, code, packages, files read, and the threads that find it out."""
