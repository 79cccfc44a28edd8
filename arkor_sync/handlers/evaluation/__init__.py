"""Callbacks that ask checkpoints prompts and score the answers. Runs on a thread of its own."""
