"""`emulator`: a local Arkor for other programs of this machine. Runs on the caller's thread."""
