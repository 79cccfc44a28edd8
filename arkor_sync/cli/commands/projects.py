"""`projects`: the projects of an account, and which one is used here. Runs on the caller's thread."""
