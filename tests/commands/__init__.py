"""python -m handler COMMAND, as an operator runs it."""
