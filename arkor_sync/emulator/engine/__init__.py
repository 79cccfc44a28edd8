"""Engines: they train the emulator's jobs and answer chat requests. Runs in the job's thread."""
