"""What is asked of the cloud over HTTP, on the caller's thread."""
