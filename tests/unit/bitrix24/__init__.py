"""handler/bitrix24/: calls to Bitrix24."""
