"""Accepts connections, and gives each a thread. Runs on a thread of its own."""

from __future__ import annotations

import contextlib
import io
import selectors
import socket
import ssl
import struct
import threading
from typing import Any, Callable, List, Optional, Set

from arkor_sync.emulator.clock import monotonic

JOIN_SECONDS = 10.0

# Real seconds to wait before the next accept, when one failed: after too many open files the
# listener stays ready, and to try again at once would use the whole CPU.
ACCEPT_PAUSE = 0.05

HANDSHAKE_SECONDS = 30.0
LINGER_SECONDS = 10.0

# Neither takes a descriptor of its own, so that they also work after too many open files. Without
# poll (on Windows) select has no limit on the numbers of descriptors.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class ClientGone(Exception):
    """The connection has ended: the client left, a fault ended it, or the emulator stops."""


class TooSlow(Exception):
    """What was to be read by a deadline has not come."""


class Connection:
    """One accepted connection. Its thread reads and writes; any thread may call `interrupt`.

    Attributes:
        reader: What the client sends. Reading raises `TooSlow` at the deadline that `read_within`
            sets.
        open: Whether nothing has ended the connection yet.
    """

    def __init__(self, sock: socket.socket) -> None:
        # Some systems raise an error here if the client has already left.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._deadline = 0.0
        self.reader = io.BufferedReader(_Incoming(self))
        self.open = True

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Make the TLS handshake, and use TLS from now on."""
        try:
            tls_socket = context.wrap_socket(
                self._socket, server_side=True, do_handshake_on_connect=False
            )
            self._socket = tls_socket
            # `interrupt` may have been called while the socket was being replaced: it shut down
            # nothing then, and the handshake would wait for the client.
            if self.open:
                tls_socket.settimeout(HANDSHAKE_SECONDS)
                tls_socket.do_handshake()
                tls_socket.settimeout(None)
        except (OSError, ValueError) as error:
            raise ClientGone from error

    def read_within(self, seconds: float) -> None:
        """Let `reader` raise `TooSlow` in so many real seconds, however much has come by then."""
        self._deadline = monotonic() + seconds

    def receive_into(self, buffer: Any) -> int:
        """Wait for bytes, until the deadline. Return how many came; 0 if the client has left."""
        left = self._deadline - monotonic()
        if left <= 0:
            raise TooSlow
        self._socket.settimeout(left)
        try:
            return self._socket.recv_into(buffer)
        except socket.timeout:
            raise TooSlow from None
        finally:
            self._socket.settimeout(None)

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
            if not _readable(self._socket, 0):
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

    def discard_rest(self) -> None:
        """Read on for a while, after the answer to a request that was not read to its end.

        To close a socket with unread bytes resets the connection, and the client may lose the
        answer with it (RFC 9112, section 9.6).
        """
        self.read_within(LINGER_SECONDS)
        with contextlib.suppress(OSError, ValueError, TooSlow):
            self._socket.shutdown(socket.SHUT_WR)
            buffer = bytearray(1 << 16)
            while self.receive_into(buffer):
                pass

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
        self.reader.close()
        self._socket.close()


class _Incoming(io.RawIOBase):
    """What a connection receives, as a raw file."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connection.receive_into(buffer)


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
        self._sockets = contextlib.ExitStack()
        self.port = 0

    def listen(self, port: int) -> None:
        """Bind `127.0.0.1:port` (0: any free port) and start the accept thread.

        Raises:
            OSError: The port is in use, or there are too many open files. Nothing stays open.
            RuntimeError: The thread cannot be started. Nothing stays open.
        """
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(_listen(port))
            self.port = listener.getsockname()[1]
            wake_read, self._wake_write = map(opened.enter_context, socket.socketpair())
            thread = threading.Thread(
                target=self._accept_loop,
                args=(listener, wake_read),
                name=f"arkor-emulator-accept-{self.port}",
                daemon=True,
            )
            thread.start()
            self._thread = thread
            self._sockets = opened.pop_all()

    def stop_listening(self) -> None:
        """Refuse new connections. Open ones stay open."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._wake_write.send(b"x")
        thread.join(JOIN_SECONDS)
        self._sockets.close()

    def stop(self) -> List[str]:
        """End all connections and threads. Return the names of threads that have not ended."""
        self.stop_listening()
        with self._lock:
            connections, threads = list(self._connections), list(self._threads)
        for connection in connections:
            connection.interrupt()
        deadline = monotonic() + JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        return [thread.name for thread in threads if thread.is_alive()]

    def _accept_loop(self, listener: socket.socket, wake: socket.socket) -> None:
        with _Selector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if wake in ready:
                    return
                try:
                    sock, _ = listener.accept()
                except OSError:
                    if _readable(wake, ACCEPT_PAUSE):
                        return
                    continue
                sock.setblocking(True)
                self._start_connection(Connection(sock))

    def _start_connection(self, connection: Connection) -> None:
        """Start the connection's thread. If there can be none, reset it: others may come later."""
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
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            with self._lock:
                self._connections.discard(connection)
                self._threads.discard(thread)
            connection.reset()
            self._report_error(error)

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


def _readable(sock: socket.socket, seconds: float) -> bool:
    """Wait until there is something to read. Return whether there is."""
    with _Selector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        error.filename = f"127.0.0.1:{port}"  # part of the text, as a file's name would be
        raise
    return listener
