"""Studio: the jobs of a project and their models, as pages of a local server. Any thread."""

from arkor_sync.studio.app import create_app

__all__ = ["create_app"]
