"""Callbacks that stop a job that is no longer worth its cost. Runs on the worker thread."""
