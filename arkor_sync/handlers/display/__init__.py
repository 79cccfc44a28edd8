"""Callbacks that show a run: a progress bar, a loss chart, a report. Runs on the worker thread."""
