"""The people who are known: their files, the key to them, and how they are found again."""
