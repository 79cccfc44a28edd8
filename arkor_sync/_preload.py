"""Imports what the threads of a run need, before there are any. Runs on the caller's thread."""

from __future__ import annotations

import codecs

from arkor_sync._common import camel_case
from arkor_sync.stream.reconnect import ReconnectPolicy


def import_for_the_threads() -> None:
    """Import what the threads would, while there are none.

    The first recovery is then as quick as any other. And a Ctrl-C in the middle of an import of the
    main thread can leave the interpreter's import lock taken for good, for all other threads.
    """
    import arkor_sync.cloud.chat_request
    import arkor_sync.cloud.chat_sending  # noqa: F401

    codecs.lookup("utf-8-sig")
    camel_case.load()
    next(ReconnectPolicy().delays())  # this imports backoff
