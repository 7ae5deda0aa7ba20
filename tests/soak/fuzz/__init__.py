"""Fuzzing the whole function except its store: any bytes in, never an error of ours out."""
