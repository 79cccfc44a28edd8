"""A terminal with a screen: what a person sees of a command, and the keys that they press."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from pathlib import Path
from types import TracebackType
from typing import Callable, List, Mapping, Optional, Sequence, Type, Union

import pyte

from arkor_sync._common.clock import Clock
from support.waiting import PATIENCE

KEYS = {"ctrl-c": "\x03", "ctrl-d": "\x04", "enter": "\r", "up": "\x1b[A", "tab": "\t"}


class Terminal:
    """A command that runs in a terminal of its own.

    It is read only while somebody waits for something on its screen.

    Args:
        arguments: The command.
        cwd: Its working directory.
        environment: Its whole environment.
        columns: The width.
        lines: The height.

    Attributes:
        printed: All that was printed, with the escape sequences.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        columns: int = 80,
        lines: int = 24,
    ) -> None:
        self._screen = pyte.HistoryScreen(columns, lines, history=1000)
        self._stream = pyte.ByteStream(self._screen)
        self.printed = b""
        self._fd, child = pty.openpty()
        self.resize(columns, lines)
        self._process = subprocess.Popen(
            arguments,
            stdin=child,
            stdout=child,
            stderr=child,
            cwd=cwd,
            env={"TERM": "xterm-256color", **environment},
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.close(child)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    @property
    def screen(self) -> List[str]:
        """The lines on the screen, without the space at their ends."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.screen).rstrip()

    def press(self, keys: str) -> None:
        """Press keys: a text, or the name of one of `KEYS`.

        Ctrl-C is pressed once the command waits for something. A signal that comes after `input`
        has written its question, and before it reads, is seen by Python at the next key only.
        """
        deadline = Clock.now() + 1.0  # some commands compute all the time
        while keys == "ctrl-c" and self._is_computing() and Clock.now() < deadline:
            self._read(0.01)
        os.write(self._fd, KEYS.get(keys, keys).encode())

    def resize(self, columns: int, lines: int = 24) -> None:
        """Change the size of the window; the command gets SIGWINCH."""
        self._screen.resize(lines, columns)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the command alone, as `kill` does."""
        self._process.send_signal(number)

    def until(self, wanted: Union[str, Callable[[], object]]) -> None:
        """Wait until a text is on the screen, or until a condition holds."""
        deadline = Clock.now() + PATIENCE
        while not (wanted in self.text if isinstance(wanted, str) else wanted()):
            assert Clock.now() < deadline, f"{wanted!r} is not on the screen:\n{self.text}"
            if not self._read(0.1) and self._process.poll() is not None:
                seen = wanted in self.text if isinstance(wanted, str) else wanted()
                assert seen, f"it ended before {wanted!r} was on the screen:\n{self.text}"
                return

    def wait(self) -> int:
        """Read until the command ends, and return its exit code."""
        deadline = Clock.now() + PATIENCE
        while self._read(0.1) or self._process.poll() is None:
            assert Clock.now() < deadline, f"it does not end:\n{self.text}"
        return self._process.wait()

    def _is_computing(self) -> bool:
        stat = Path(f"/proc/{self._process.pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "R"

    def _read(self, timeout: float) -> bool:
        if not select.select([self._fd], [], [], timeout)[0]:
            return False
        with contextlib.suppress(OSError):  # Linux: the other end was closed
            data = os.read(self._fd, 65536)
            self.printed += data
            self._stream.feed(data)
            return bool(data)
        return False


def _own_terminal() -> None:
    """Make standard input the terminal of this session, so that Ctrl-C becomes SIGINT."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
