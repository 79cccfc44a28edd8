"""The commands, a module for each group of them. Runs on the caller's thread."""
