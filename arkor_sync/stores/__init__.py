"""Where the acknowledged position of a job is kept, for a later process. Any thread."""

from arkor_sync.stores.base import CursorStore, SavedCursor
from arkor_sync.stores.files import FileCursorStore

__all__ = ["CursorStore", "FileCursorStore", "SavedCursor"]
