"""The benchmark: the function's costs compared with references measured in the same run."""
