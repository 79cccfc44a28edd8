"""What several kinds of handlers use."""
