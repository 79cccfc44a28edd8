"""Flask: an extension that submits in views, and follows in processes of its own. Any thread."""

from arkor_sync.contrib.flask.extension import Arkor
from arkor_sync.contrib.flask.models import Models, add_models

__all__ = ["Arkor", "Models", "add_models"]
