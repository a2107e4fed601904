"""A proxy on the loopback that stands between a client and an HTTP server, and does what networks do."""

import contextlib
import http.client
import http.server
import random
import socket
import threading
import time
from urllib.parse import urlsplit

MODES = ("500", "503", "stall", "cut", "vanish")


class Proxy:
    """Forward requests to `upstream`; a share of them meets the fault that `mode` names, until `faults` are spent.

    Parameters
    ----------
    upstream
        `http://host:port`.
    mode
        500 or 503: that status instead of an answer; stall: no answer for `stall` seconds; cut: half an answer;
        vanish: connections are refused until `back` (a time of `time.monotonic`).
    """

    def __init__(self, upstream, mode=None, *, share=0.3, faults=10**9, stall=5.0, seed=0):
        self.upstream, self.mode, self.share, self.faults, self.stall = urlsplit(upstream), mode, share, faults, stall
        self.random, self.lock, self.done, self.back = random.Random(seed), threading.Lock(), 0, 0.0
        self.stopped = threading.Event()

    def fault(self):
        """The fault that this request meets, or None."""
        with self.lock:
            if self.mode == "vanish":
                hit = time.monotonic() < self.back
            else:
                hit = self.mode is not None and self.done < self.faults and self.random.random() < self.share
            self.done += hit
            return self.mode if hit else None

    @contextlib.contextmanager
    def serve(self):
        """Serve on a free port of the loopback; yields the URL."""
        proxy = self

        class Handler(_Forward):
            owner = proxy

        with _Server(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                self.stopped.set()
                server.shutdown()
                thread.join()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_args):
        """A client that goes away is no news."""


class _Forward(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Proxy

    def log_message(self, *_args):
        """Say nothing."""

    def _forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.owner.fault()
        if fault == "vanish":
            self._hang_up()
        elif fault in ("500", "503"):
            self._answer(int(fault), [], b"")
        else:
            if fault == "stall":
                self.owner.stopped.wait(self.owner.stall)
            self._pass_on(body, cut=fault == "cut")

    do_GET = do_HEAD = _forward  # noqa: N815 - http.server's names; a reader asks nothing else

    def _pass_on(self, body, *, cut):
        upstream = http.client.HTTPConnection(self.owner.upstream.hostname, self.owner.upstream.port, timeout=30)
        with contextlib.closing(upstream):
            upstream.request(self.command, self.path, body or None, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
            headers = [(key, value) for key, value in answer.getheaders() if key.lower() not in _HOP]
            length = int(answer.headers.get("Content-Length") or len(content))
        self._answer(answer.status, headers, content, length, cut=cut)

    def _answer(self, status, headers, content, length=None, *, cut=False):
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if cut:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self._hang_up()
        elif self.command != "HEAD":
            self.wfile.write(content)

    def _hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
