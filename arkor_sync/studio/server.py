"""Serves the pages on the loopback, to who has the URL. Runs on the caller's thread."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from threading import Event, RLock
from typing import TYPE_CHECKING, Any, Dict, Optional

from arkor_sync._common.extras import import_extra
from arkor_sync.studio.access import TOKEN, Launch
from arkor_sync.studio.app import LARGEST_BODY, build_app
from arkor_sync.studio.state import KEY

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient

HOST = "127.0.0.1"
THREADS = 8
_TURN = 1.0  # seconds


class StudioServer:
    """A server of the pages on this machine's loopback.

    Args:
        client: Asks the cloud; None for that of who is signed in.
        port: The port; 0 for one that is free.
        file: The trainer's file that the run button starts; None for no such button.

    Attributes:
        url: The URL to open. It holds a token: whoever has it may use the pages.

    Raises:
        OSError: The port is taken.
    """

    def __init__(
        self, client: Optional[CloudApiClient] = None, port: int = 4000, file: Optional[Path] = None
    ) -> None:
        waitress = import_extra("waitress", "studio", "Studio")
        # It warns of each request that waits for a thread, as those of many tabs do for a moment.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._socket = socket.create_server((HOST, port))
        port = self._socket.getsockname()[1]
        access = Launch(port)
        self.url = f"http://{HOST}:{port}/?{TOKEN}={access.token}"
        try:
            self._app = build_app(client, access, file)
        except BaseException:
            self._socket.close()
            raise
        self._stopping = Event()
        self._closing = RLock()  # held while the trigger of the loop is pulled, or closed
        self._map: Dict[int, Any] = {}
        self._server = waitress.create_server(
            self._app,
            map=self._map,
            sockets=[self._socket],
            threads=THREADS,
            max_request_body_size=LARGEST_BODY,
            channel_request_lookahead=1,  # else a stream is not told that its browser has gone
            ident=None,
        )

    def run(self) -> None:
        """Serve until `close`, or until the thread is interrupted; then free all."""
        from waitress import wasyncore

        with self:
            while not self._stopping.is_set():
                wasyncore.loop(timeout=_TURN, map=self._map, count=1)

    def close(self) -> None:
        """End `run`. Any thread may call it, also again."""
        with self._closing:
            if not self._stopping.is_set():
                self._stopping.set()
                self._server.pull_trigger()

    def __enter__(self) -> StudioServer:
        return self

    def __exit__(self, *error: object) -> None:
        """Free all that it holds, whether it has served or not; again does nothing."""
        from waitress import wasyncore

        shared = self._app.extensions[KEY]
        if shared.run is not None:
            shared.run.begin_to_close()
        shared.taps.close()
        self._server.task_dispatcher.shutdown(timeout=_TURN)
        with self._closing:
            self._stopping.set()
            wasyncore.close_all(self._map)
        self._socket.close()
        if shared.run is not None:
            shared.run.close()
