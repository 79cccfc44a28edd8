"""The engine: two threads, and the parts that stand between them."""
