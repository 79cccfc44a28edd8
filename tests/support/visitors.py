"""Who comes to the port of a sign-in: the user's browser, and others. Each is a bare client."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from typing import Any, Callable, Dict, Iterator, List, Tuple
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from support.command_line import CommandLine
from support.waiting import PATIENCE, Background


class Visitor:
    """What is done once the address of the sign-in page is known; give it as `on_url`.

    Args:
        visits: What to do, one after the other, on a thread: each is called with this visitor.

    Attributes:
        url: The address of the sign-in page.
        answers: What `get` was answered: statuses and bodies.
    """

    def __init__(self, *visits: Callable[[Visitor], Any]) -> None:
        self._visits = visits
        self.url = ""
        self.answers: List[Tuple[int, str]] = []
        self._background: Any = None

    def __call__(self, url: str) -> None:
        self.url = url
        self._background = Background(lambda: [visit(self) for visit in self._visits])

    def done(self) -> None:
        """Wait until all visits are over; raise what one of them did."""
        self._background.result()

    @property
    def query(self) -> Dict[str, str]:
        """The parameters of the sign-in page."""
        return {name: each for name, (each,) in parse_qs(urlsplit(self.url).query).items()}

    @property
    def callback(self) -> str:
        """The address that the browser is sent back to."""
        return self.query["redirect_uri"]

    @property
    def port(self) -> int:
        port = urlsplit(self.callback).port
        assert port is not None
        return port

    def get(self, url: str, **options: Any) -> requests.Response:
        """Open an address as a browser does: it follows redirects."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, timeout=PATIENCE, **options)
        self.answers.append((answer.status_code, answer.text))
        return answer

    def come_back(self, **parameters: str) -> requests.Response:
        """Open the callback with these parameters."""
        return self.get(f"{self.callback}?{urlencode(parameters)}")

    def raw(self, data: bytes) -> bytes:
        """Send bytes to the port, and read the answer to its end."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
            sock.sendall(data)
            return b"".join(iter(lambda: sock.recv(65536), b""))


@contextlib.contextmanager
def signing_in(user: CommandLine, **extra: str) -> Iterator[Tuple[subprocess.Popen[str], str]]:
    """Start to sign in with an account; yield the process, and the address that it prints.

    The process is given to `communicate` by the caller; if the test fails before, it is killed.
    """
    browser = () if "BROWSER" in extra else ("--no-browser",)
    process = user.start("login", "--oauth", *browser, **extra)
    assert process.stderr is not None
    with process:
        try:
            yield process, url_in(process.stderr.readline() + process.stderr.readline())
        except BaseException:
            process.kill()
            raise


def browse(visitor: Visitor) -> None:
    """Do as the user's browser: open the page, and follow where it leads."""
    visitor.get(visitor.url)


def url_in(text: str) -> str:
    """Return the address of the sign-in page in what a command printed."""
    match = re.search(r"https?://\S+/authorize\?\S+", text)
    assert match, text
    return match[0]
