"""Callbacks that write metrics: files, databases, experiment trackers, monitoring."""
