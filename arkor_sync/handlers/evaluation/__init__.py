"""Callbacks that question a checkpoint and score its answers."""
