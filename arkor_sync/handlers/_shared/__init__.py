"""Helpers that several kinds of handlers use. Any thread."""
