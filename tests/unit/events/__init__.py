"""handler/events/: bytes in, typed events out."""
