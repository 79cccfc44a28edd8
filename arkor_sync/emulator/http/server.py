"""The sockets: one accept thread, and one thread for each connection."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import threading
import time
from typing import Callable, List, Optional, Set

JOIN_SECONDS = 10.0


class ClientGone(Exception):
    """The connection ended under a write: the client left, or the emulator stops."""


class Connection:
    """One accepted connection. Its own thread reads and writes; any thread may interrupt it."""

    def __init__(self, sock: socket.socket) -> None:
        # Some systems refuse when the client has already gone again.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self.reader = sock.makefile("rb")
        self.open = True

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from here on; the handshake happens now."""
        self.reader.close()
        try:
            secured = context.wrap_socket(
                self._socket, server_side=True, do_handshake_on_connect=False
            )
            self._socket = secured
            self.reader = secured.makefile("rb")
            # An interrupt may have come while the plain socket was no longer there to be shut down.
            if self.open:
                secured.do_handshake()
        except (OSError, ValueError) as error:
            raise ClientGone from error

    def send(self, data: bytes) -> None:
        """Send everything, however long the client takes to read it.

        Raises:
            ClientGone: The client, or :meth:`interrupt`, ended the connection.
        """
        try:
            self._socket.sendall(data)
        except (OSError, ValueError) as error:
            raise ClientGone from error

    def limit_sending(self, seconds: float, buffer_bytes: int) -> None:
        """Let :meth:`send` raise when the client reads nothing for so many real seconds."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self._socket.settimeout(seconds)

    def client_has_gone(self) -> bool:
        """Tell, without waiting, whether the client has closed its side."""
        try:
            # Not select.select, which knows no descriptor above 1023.
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                if not selector.select(0):
                    return False
            if not isinstance(self._socket, ssl.SSLSocket):
                return not self._socket.recv(1, socket.MSG_PEEK)
            timeout = self._socket.gettimeout()
            self._socket.settimeout(0)
            try:
                return not self._socket.recv(1)
            finally:
                self._socket.settimeout(timeout)
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError):
            return True

    def interrupt(self) -> None:
        """Wake the connection's thread out of whatever it waits for on the socket."""
        self.open = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close politely: the client reads what was sent and then the end."""
        self.open = False
        with contextlib.suppress(OSError, ValueError):
            if isinstance(self._socket, ssl.SSLSocket):
                # Sends the close notice; without a timeout it would wait for the client's.
                self._socket.settimeout(0)
                self._socket.unwrap()
        with contextlib.suppress(OSError, ValueError):
            self._socket.shutdown(socket.SHUT_WR)
        self._release()

    def reset(self) -> None:
        """Close with a TCP reset; the client may lose what it has not read yet."""
        self.open = False
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._release()

    def _release(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.reader.close()
        self._socket.close()


class Server:
    """Listens on the loopback and gives every connection a thread of its own.

    Args:
        serve: Called in the connection's thread; closing the connection is its last act.
        accept: Called in the accept thread with the number of a new connection, from 1; False
            resets it at once.
        failed: Told of every exception that left ``serve``.
        tls: Speak TLS with this context.
    """

    def __init__(
        self,
        serve: Callable[[Connection], None],
        *,
        accept: Callable[[int], bool],
        failed: Callable[[BaseException], None],
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        self._serve = serve
        self._accept = accept
        self._failed = failed
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: Set[Connection] = set()
        self._threads: Set[threading.Thread] = set()
        self._accepted = 0
        self._thread: Optional[threading.Thread] = None
        self.port = 0

    def listen(self, port: int) -> None:
        """Bind ``127.0.0.1:port`` (0: any free port) and begin to accept."""
        self._listener = _listen(port)
        self.port = self._listener.getsockname()[1]
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(
            target=self._accept_loop, name=f"arkor-emulator-accept-{self.port}", daemon=True
        )
        self._thread.start()

    def deafen(self) -> None:
        """Listen no longer: new connections are refused, those that are open stay open."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._wake_write.send(b"x")
        thread.join(JOIN_SECONDS)
        for sock in (self._listener, self._wake_read, self._wake_write):
            sock.close()

    def stop(self) -> List[str]:
        """End every connection and thread; return the names of threads that would not end."""
        self.deafen()
        with self._lock:
            connections, threads = list(self._connections), list(self._threads)
        for connection in connections:
            connection.interrupt()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.name for thread in threads if thread.is_alive()]

    def _accept_loop(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._wake_read in ready:
                    return
                try:
                    sock, _ = self._listener.accept()
                except OSError:
                    continue
                sock.setblocking(True)
                self._begin(Connection(sock))

    def _begin(self, connection: Connection) -> None:
        self._accepted += 1
        if not self._accept(self._accepted):
            connection.reset()
            return
        thread = threading.Thread(
            target=self._run, args=(connection,), name="arkor-emulator-connection", daemon=True
        )
        with self._lock:
            self._connections.add(connection)
            # One that is done may not be gone yet, so none leaves by itself: stop() joins it.
            self._threads = {known for known in self._threads if known.is_alive()} | {thread}
        thread.start()

    def _run(self, connection: Connection) -> None:
        try:
            if self._tls is not None:
                connection.secure(self._tls)
            self._serve(connection)
        except ClientGone:
            pass
        except BaseException as error:
            self._failed(error)
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
