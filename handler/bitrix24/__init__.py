"""Calls to Bitrix24: REST, installs, bindings and the offline queue."""
