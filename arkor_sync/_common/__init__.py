"""Small things that every room uses. They know the package's errors and nothing else of it."""
