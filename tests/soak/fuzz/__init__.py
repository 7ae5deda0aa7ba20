"""Fuzzing the whole function but its store: any bytes in, never a fault of ours out."""
