"""Small helpers that every other folder uses. Any thread."""
