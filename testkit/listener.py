"""A server on this machine that takes what is posted to it, refuses it, or hangs."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRETS = ("lovelace", "cret", "hidden")
"""what its addresses hold that nobody else should ever read"""


class Listener:
    """Hears what is posted, until it is closed."""

    def __init__(self) -> None:
        self.status = 200
        self.hangs = False
        """whether nobody is answered any more"""
        self.heard: list[tuple[dict[str, str], dict[str, Any]]] = []
        """headers and JSON of all that has come"""
        self._over = threading.Event()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if listener.hangs:
                    listener._over.wait()
                    return
                listener.heard.append((dict(self.headers), json.loads(body)))
                self.send_response(listener.status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._own = f"lovelace:s%C3%A9cret@127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self._own}/hook?token=hidden"

    def by_apprise(self, kind: str, more: str = "") -> str:
        """Its address for apprise, which sends to it what it would send to others of that kind."""
        return f"{kind}://{self._own}/hidden{more}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What has come."""
        return [body for _, body in self.heard]

    @property
    def events(self) -> list[str]:
        """Of the lines that have come as JSON."""
        return [line["event"] for body in self.bodies for line in body["lines"]]

    def close(self) -> None:
        """Nobody listens any more, and who was kept waiting is let go."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
