"""HTTP: from the socket to a route's handler, and back. Runs in the connection's thread."""
