"""The client of redis-py that a store uses. Any thread."""

from __future__ import annotations

from typing import Any, NoReturn

from arkor_sync._common.arguments import refusal
from arkor_sync._common.secret import Secret

_SCHEMES = ("redis://", "rediss://", "unix://")


def make_client(library: Any, url: Any, max_connections: int, wait: float) -> Any:
    """Make a client that waits for nothing longer than `wait`, and repeats nothing by itself."""
    if not isinstance(url, str) or not url.startswith(_SCHEMES):
        _refuse(url)
    try:
        pool = library.BlockingConnectionPool.from_url(
            Secret(url),
            max_connections=max_connections,
            timeout=wait,
            socket_timeout=wait,
            socket_connect_timeout=wait,
            retry=library.retry.Retry(library.backoff.NoBackoff(), 0),
        )
        return library.Redis(connection_pool=pool)
    except (TypeError, ValueError):
        _refuse(url)


def _refuse(given: Any) -> NoReturn:
    got = "a text that is no such URL" if isinstance(given, str) else ""
    wanted = "a URL such as redis://host:6379/0, rediss://... or unix://..., or a redis.Redis"
    raise refusal("url_or_client", given, wanted, got=got) from None


def check_client(client: Any) -> Any:
    """Refuse a client that waits for ever where the server stands still."""
    pool = getattr(client, "connection_pool", None)  # a cluster's has one for each node
    if pool is not None and pool.connection_class(**pool.connection_kwargs).socket_timeout is None:
        wanted = "redis.Redis(..., socket_timeout=3)"
        raise refusal("url_or_client", client, wanted, got="a client without a socket_timeout")
    return client
