"""The same cases on every store, and the faults of each."""
