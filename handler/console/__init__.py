"""What several commands share: reading records, showing them, naming portals, opening a store."""
