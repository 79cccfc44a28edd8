"""`report`: a job as a page, a picture or a table. Runs on the caller's thread."""
