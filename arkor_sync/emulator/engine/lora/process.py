"""Starts the child process, and passes messages to it and from it. Any thread.

The child is a new interpreter, so that nothing of this process is in it, and a program needs no
`if __name__ == "__main__"`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any, Callable, Dict, Optional

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from arkor_sync.emulator.engine.lora.child import main; main()"
)
_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

Message = Dict[str, Any]
Listener = Callable[[Message], None]


class ChildProcess:
    """A running child process, with a thread that reads what it says.

    Args:
        options: The first line that the child reads.
    """

    def __init__(self, options: Dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self._listeners: Dict[object, Listener] = {}
        self._ended: Optional[str] = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **_QUIET},
            start_new_session=True,  # Ctrl-C and the end of a terminal are for the parent
        )
        self._thread = threading.Thread(target=self._read, name="arkor-emulator-lora", daemon=True)
        self._thread.start()
        self._write(options)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended, as far as is known."""
        return self._ended is None

    def ask(self, key: object, message: Message, listener: Listener) -> None:
        """Send a message, and pass what is answered to it to a listener.

        Args:
            key: What the answers carry as their `job` or `chat`.
            message: The message.
            listener: Called in the reading thread, with each answer. If the process ends it is
                called with `{"ended": reason}`.
        """
        with self._lock:
            self._listeners[key] = listener
            ended = self._ended
        if ended is None:
            self._write(message)
        else:
            listener({"ended": ended})

    def tell(self, message: Message) -> None:
        """Send a message that has no answer."""
        self._write(message)

    def forget(self, key: object) -> None:
        """Pass nothing more to a listener."""
        with self._lock:
            self._listeners.pop(key, None)

    def kill(self) -> None:
        """End the process at once. It may be called twice."""
        self._process.kill()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _write(self, message: Message) -> None:
        line = json.dumps(message).encode() + b"\n"
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, ValueError), self._lock:  # it has ended: `_read` tells
            stdin.write(line)
            stdin.flush()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                if not line.endswith(b"\n"):  # it was killed as it wrote this one
                    break
                message = json.loads(line)
                with self._lock:
                    listener = self._listeners.get(message.get("job", message.get("chat")))
                if listener is not None:
                    listener(message)
        reason = self._reason(self._process.wait())
        with self._lock:
            self._ended = reason
            listeners = list(self._listeners.values())
            self._listeners.clear()
            with contextlib.suppress(OSError):
                if self._process.stdin is not None:
                    self._process.stdin.close()
            self._log.close()
        for listener in listeners:
            listener({"ended": reason})

    def _reason(self, code: int) -> str:
        if code == -signal.SIGKILL:
            return (
                "the training process was killed (SIGKILL); if nobody did that, the system was out "
                "of memory: lower batch_size or max_length, or train a smaller model"
            )
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        self._log.seek(0)
        lines = self._log.read()[-4096:].decode(errors="replace").strip().splitlines()
        return f"the training process ended ({how}){': ' + lines[-1][:500] if lines else ''}"
