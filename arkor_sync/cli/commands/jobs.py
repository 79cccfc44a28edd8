"""`jobs list`, `show`, `cancel` and `compare`. Runs on the caller's thread."""
