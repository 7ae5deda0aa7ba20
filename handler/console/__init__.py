"""Shared by several commands: reading records, showing them, naming portals, opening a store."""
