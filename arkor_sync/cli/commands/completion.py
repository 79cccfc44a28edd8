"""`completion`: what a shell needs to complete the command line. Runs on the caller's thread."""
