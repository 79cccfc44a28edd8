"""`demo`: train a small model here, and talk to each of its checkpoints. Runs on the caller's thread."""
