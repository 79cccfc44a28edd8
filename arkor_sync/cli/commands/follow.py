"""`jobs follow` and `jobs logs`: what happens in a job. Runs on the caller's thread."""
