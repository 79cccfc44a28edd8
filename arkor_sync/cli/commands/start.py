"""`start`: submit what a file of a project trains, and follow it. Runs on the caller's thread."""
