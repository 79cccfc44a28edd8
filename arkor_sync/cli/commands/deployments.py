"""`deployments`: models behind an address of their own, and their keys. Runs on the caller's thread."""
