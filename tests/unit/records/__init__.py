"""handler/records/: recording events."""
