"""Ways to use it in frameworks: Django, Flask, Celery. Any thread."""
