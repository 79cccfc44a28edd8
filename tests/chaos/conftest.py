from __future__ import annotations

from arkor_sync.testing import arkor_no_leaks

__all__ = ["arkor_no_leaks"]
