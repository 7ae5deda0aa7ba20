"""The benchmark: what the function costs beside references measured in the same run."""
