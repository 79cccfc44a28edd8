"""`init`: a new project from a template. Runs on the caller's thread."""
