"""Stand-ins for Bitrix24, Firestore, gcloud and bad networks; the function under test itself."""
