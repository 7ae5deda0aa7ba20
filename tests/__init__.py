"""The tests: at the edges over HTTP, inside where a unit has cases of its own."""
