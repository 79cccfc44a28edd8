"""Reads the final answer to a request, as servers and proxies really write it. Any thread.

RFC 9110, section 15.2: any number of informational answers (100 to 199) may come before the final
one, and a client that does not know one ignores it. http.client ignores only 100, and takes 102
(the server is still working) and 103 (early hints) for the answer. The timeout of
the whole answer limits them. The thread that owns the connection calls this.
"""

from __future__ import annotations

import http.client
from typing import Any, List, Tuple


class FinalAnswer(http.client.HTTPResponse):
    """An answer whose status is never informational, but 101: nobody asked to switch protocols."""

    def _read_status(self) -> Tuple[str, int, str]:
        """Read the status line. `begin` calls this, and what opens a tunnel through a proxy."""
        while True:
            untyped: Any = super()
            version, status, reason = untyped._read_status()
            if status >= 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)

    def begin(self) -> None:
        """Read the status and the headers.

        RFC 9110, sections 5.3, 5.5 and 8.6: a header may come twice or as a list, and white space
        around its value is no part of it. http.client compares the whole value.
        """
        super().begin()
        self.chunked: bool
        if self.chunked or self.length == 0:
            return
        lengths = set(self._values("content-length"))
        if "chunked" in self._values("transfer-encoding"):
            self.chunked, self.chunk_left, self.length = True, None, None
        elif self.length is None and len(lengths) == 1 and min(lengths).isdecimal():
            self.length = int(min(lengths))
        else:
            return
        untyped: Any = self
        self.will_close = untyped._check_close()

    def _values(self, name: str) -> List[str]:
        values = ",".join(self.headers.get_all(name, [])).lower().split(",")
        return [value.strip() for value in values]
