"""One module at a time, in the folders of handler/."""
