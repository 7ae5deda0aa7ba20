"""Where documents are stored: the interface, one module for each store, and opening one."""
