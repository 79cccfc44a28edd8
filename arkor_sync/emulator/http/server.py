"""Accepts connections, and gives each a thread. Runs on a thread of its own."""

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
    """The connection has ended: the client left, a fault ended it, or the emulator stops."""


class Connection:
    """One accepted connection. Its thread reads and writes; any thread may call `interrupt`."""

    def __init__(self, sock: socket.socket) -> None:
        # Some systems raise an error here if the client has already left.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self.reader = sock.makefile("rb")
        self.open = True

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Make the TLS handshake, and use TLS from now on."""
        self.reader.close()
        try:
            tls_socket = context.wrap_socket(
                self._socket, server_side=True, do_handshake_on_connect=False
            )
            self._socket = tls_socket
            self.reader = tls_socket.makefile("rb")
            # `interrupt` may have been called while the socket was being replaced: it shut down
            # nothing then, and the handshake would wait for the client.
            if self.open:
                tls_socket.do_handshake()
        except (OSError, ValueError) as error:
            raise ClientGone from error

    def send(self, data: bytes) -> None:
        """Send all bytes, however long the client takes to read them.

        Raises:
            ClientGone: The client has left, or `interrupt` was called.
        """
        try:
            self._socket.sendall(data)
        except (OSError, ValueError) as error:
            raise ClientGone from error

    def limit_sending(self, seconds: float, buffer_bytes: int) -> None:
        """Let `send` raise `ClientGone` if the client reads nothing for so many real seconds."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self._socket.settimeout(seconds)

    def client_has_gone(self) -> bool:
        """Tell, without waiting, whether the client has closed its side."""
        try:
            # select.select fails for descriptors above 1023.
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
        """Shut the socket down, so that the connection's thread stops waiting for it."""
        self.open = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection so that the client can still read everything that was sent."""
        self.open = False
        with contextlib.suppress(OSError, ValueError):
            if isinstance(self._socket, ssl.SSLSocket):
                # Sends the TLS close notice. With a timeout of 0 it does not wait for the client's.
                self._socket.settimeout(0)
                self._socket.unwrap()
        with contextlib.suppress(OSError, ValueError):
            self._socket.shutdown(socket.SHUT_WR)
        self._release()

    def reset(self) -> None:
        """Close with a TCP reset. The client may lose what it has not read yet."""
        self.open = False
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._release()

    def _release(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.reader.close()
        self._socket.close()


class Server:
    """Listens on 127.0.0.1 and gives every connection a thread of its own.

    Args:
        serve: Called in the connection's thread. The connection is closed when it returns.
        accept: Called in the accept thread with the number of a new connection, from 1. If it
            returns False, the connection is reset.
        report_error: Called with every exception that `serve` raises.
        tls: Use TLS with this context.
    """

    def __init__(
        self,
        serve: Callable[[Connection], None],
        *,
        accept: Callable[[int], bool],
        report_error: Callable[[BaseException], None],
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        self._serve = serve
        self._accept = accept
        self._report_error = report_error
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: Set[Connection] = set()
        self._threads: Set[threading.Thread] = set()
        self._accepted = 0
        self._thread: Optional[threading.Thread] = None
        self.port = 0

    def listen(self, port: int) -> None:
        """Bind `127.0.0.1:port` (0: any free port) and start the accept thread."""
        self._listener = _listen(port)
        self.port = self._listener.getsockname()[1]
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(
            target=self._accept_loop, name=f"arkor-emulator-accept-{self.port}", daemon=True
        )
        self._thread.start()

    def stop_listening(self) -> None:
        """Refuse new connections. Open ones stay open."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._wake_write.send(b"x")
        thread.join(JOIN_SECONDS)
        for sock in (self._listener, self._wake_read, self._wake_write):
            sock.close()

    def stop(self) -> List[str]:
        """End all connections and threads. Return the names of threads that have not ended."""
        self.stop_listening()
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
                self._start_connection(Connection(sock))

    def _start_connection(self, connection: Connection) -> None:
        self._accepted += 1
        if not self._accept(self._accepted):
            connection.reset()
            return
        thread = threading.Thread(
            target=self._run, args=(connection,), name="arkor-emulator-connection", daemon=True
        )
        with self._lock:
            self._connections.add(connection)
            # A thread does not remove itself: it would still be running when it is no longer in
            # the set, and stop() would not join it.
            self._threads = {known for known in self._threads if known.is_alive()} | {thread}
        thread.start()

    def _run(self, connection: Connection) -> None:
        try:
            if self._tls is not None:
                connection.start_tls(self._tls)
            self._serve(connection)
        except ClientGone:
            pass
        except BaseException as error:
            self._report_error(error)
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
