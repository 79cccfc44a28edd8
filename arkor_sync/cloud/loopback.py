"""Which hosts are this machine itself. Any thread."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any


def is_loopback(host: str) -> bool:
    """Whether a host name or address of a URL is this machine itself, without asking the DNS."""
    host = host.lower().rstrip(".").partition("%")[0]
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        address: Any = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.ip_address(
                socket.inet_aton(host)
            )  # 127.1, as the resolver reads it
        except (OSError, ValueError):
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return bool(address.is_loopback or address.is_unspecified)
