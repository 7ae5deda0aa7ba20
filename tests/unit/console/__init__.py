"""handler/console/: what several commands share."""
