"""`projects`: those of an account, and the one used here. Runs on the caller's thread."""
