"""HTTP: from a socket to the handler of a route, and the answer back."""
