"""`demo`: train a small model here, and talk to it. Runs on the caller's thread."""
