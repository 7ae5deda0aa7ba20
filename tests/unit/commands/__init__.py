"""Parts of the commands."""
