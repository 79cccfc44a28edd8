"""Engines: what trains behind the emulator's jobs."""
