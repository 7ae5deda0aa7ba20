"""Recording: the documents of an event, creating them, dead letters and their replay."""
