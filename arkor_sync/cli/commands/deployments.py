"""`deployments`: models behind an address, and their keys. Runs on the caller's thread."""
