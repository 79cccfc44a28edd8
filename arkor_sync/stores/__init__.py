"""Where the acknowledged position of a job is kept, for a later process. Any thread."""

from arkor_sync.stores.base import CursorStore, SavedCursor
from arkor_sync.stores.files import FileCursorStore
from arkor_sync.stores.leased import LeasedStore

__all__ = ["CursorStore", "FileCursorStore", "LeasedStore", "SavedCursor"]
