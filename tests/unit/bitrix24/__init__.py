"""handler/bitrix24/: talking to Bitrix24."""
