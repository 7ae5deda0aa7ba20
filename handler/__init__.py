"""Receives Bitrix24's open-line deletions and records them in Firestore."""

VERSION = "0.2.0"
