"""Reads the `Retry-After` header (RFC 9110, section 10.2.3). Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Optional

from arkor_sync._common.arguments import MAX_SECONDS


def parse_retry_after(value: Optional[str], date: Optional[str] = None) -> Optional[float]:
    """Read a `Retry-After` header: seconds, or an HTTP date in any of its three forms.

    A date is measured against the answer's own `Date`, because this machine's clock may be wrong.
    Both are UTC, also where the form names no zone.

    Args:
        value: The header.
        date: The `Date` header of the same answer. Without a usable one, this machine's clock says
            what time it is.

    Returns:
        Seconds, from 0 to `MAX_SECONDS`; `None` if there is no header, or it is something else.
    """
    value = (value or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return min(float(value), MAX_SECONDS)
    end = _parse_date(value)
    if end is None:
        return None
    begin = _parse_date(date or "") or datetime.now(timezone.utc)
    return min(max(0.0, (end - begin).total_seconds()), MAX_SECONDS)


def _parse_date(text: str) -> Optional[datetime]:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
