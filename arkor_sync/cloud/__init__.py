"""Requests to the Arkor cloud over HTTP. Runs on the caller's thread."""
