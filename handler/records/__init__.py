"""What is stored of an event: its documents, recording, dead letters and their replay."""
