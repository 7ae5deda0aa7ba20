"""Talking to Bitrix24: its REST, installs, bindings and the offline queue."""
