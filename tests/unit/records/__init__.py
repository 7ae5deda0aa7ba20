"""handler/records/: what is stored of an event."""
