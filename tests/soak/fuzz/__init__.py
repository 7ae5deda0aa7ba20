"""Fuzzing the whole function except its store: no input may cause a 5xx."""
