"""A page on this machine's loopback, and a socket from it to a board's serial port."""

import collections.abc
import contextlib
import http
import secrets
import socket
import threading
import typing

if typing.TYPE_CHECKING:
    from websockets.http11 import Request, Response
    from websockets.sync.server import ServerConnection

_MAX_MESSAGE_BYTES = 1 << 20  # of a browser: an image and its command
_READ_BYTES = 4096


@contextlib.contextmanager
def serve_page(page: str, serial: tuple[str, int]) -> collections.abc.Iterator[str]:
    """Serve `page`, and beside it "serial", a WebSocket whose bytes are those of the board's port. Yields the page's address.

    Only this machine reaches it, and only who knows the address: it holds a secret, so that no other page of a browser speaks
    with the board. One page at a time does.

    Args:
        page: HTML.
        serial: (host, port) of a TCP socket at which the board's serial port is.

    Raises:
        ImportError: websockets is not installed.
    """
    try:
        from websockets.sync.server import serve
    except ImportError as error:
        raise ImportError('Serving a page needs websockets. Install it with: pip install "keras-tinytrain[device]"') from error
    taken = threading.Lock()

    def bridge(browser: "ServerConnection") -> None:
        if not taken.acquire(blocking=False):
            browser.close(1008, "another tab is connected: disconnect it first")
            return
        try:
            _join(browser, serial)
        finally:
            taken.release()

    path = f"/{secrets.token_urlsafe(16)}/"

    def answer(browser: "ServerConnection", request: "Request") -> "Response | None":
        return _answer(browser, request, path, page, f"127.0.0.1:{port}")

    server = serve(bridge, "127.0.0.1", 0, process_request=answer, max_size=_MAX_MESSAGE_BYTES, compression=None)
    port = server.socket.getsockname()[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}{path}"
    finally:
        server.shutdown()
        thread.join()


def _answer(browser: "ServerConnection", request: "Request", path: str, page: str, host: str) -> "Response | None":
    """The page, an error, or None where the socket may be opened: from the page itself."""
    if request.headers.get("Host") != host or request.path not in (path, f"{path}serial"):
        return browser.respond(http.HTTPStatus.NOT_FOUND, "There is nothing here: open the whole address that was printed.\n")
    if request.path == path:
        found = browser.respond(http.HTTPStatus.OK, page)
        del found.headers["Content-Type"]
        found.headers.update(
            {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        )
        return found
    if request.headers.get("Origin") != f"http://{host}":
        return browser.respond(http.HTTPStatus.FORBIDDEN, "Only the page at this address may open this socket.\n")
    return None


def _join(browser: "ServerConnection", serial: tuple[str, int]) -> None:
    """Pass bytes on, both ways, until one end closes."""
    from websockets.exceptions import ConnectionClosed

    try:
        board = socket.create_connection(serial)
    except OSError:
        browser.close(1011, "the emulated board does not answer")
        return
    with board, contextlib.suppress(ConnectionClosed, OSError):
        hearing = threading.Thread(target=_hear, args=(board, browser), daemon=True)
        hearing.start()
        try:
            for message in browser:
                board.sendall(message if isinstance(message, bytes) else message.encode())
        finally:  # the board hears of it although the other thread still reads
            board.shutdown(socket.SHUT_RDWR)
            hearing.join()


def _hear(board: socket.socket, browser: "ServerConnection") -> None:
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed, OSError):
        while data := board.recv(_READ_BYTES):
            browser.send(data)
    browser.close(1011, "the emulated board has stopped")
