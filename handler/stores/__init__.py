"""The stores of documents: their interface, a module for each, and opening one."""
