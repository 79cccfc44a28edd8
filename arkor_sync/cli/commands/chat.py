"""`chat`: talk to what a job trained, or to a base model. Runs on the caller's thread."""
