"""The pages, one module for each. Any thread."""
