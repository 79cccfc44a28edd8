"""`login`, `logout` and `whoami`. Runs on the caller's thread."""
