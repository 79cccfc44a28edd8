"""Callbacks that write metrics to files, databases and services. Runs on a thread of its own."""
