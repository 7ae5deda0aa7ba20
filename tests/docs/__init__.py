"""What the documents promise: links that lead somewhere, commands that exist."""
