"""Part of the Django app. Any thread."""
