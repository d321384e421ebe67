"""How page and API are served: by uvicorn, which waits for nobody for ever."""

from __future__ import annotations

import asyncio
import re
import socket
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import anyio
import h11
import uvicorn
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from supervisor.jobs.errors import Busy
from supervisor.web.errors import BadRequest, NotHttp
from supervisor.web.telling import refused

HEAD_MAX_S = 10.0
"""for the head of a request to come, once somebody has connected or has begun the next one"""
IDLE_MAX_S = 30.0
"""a connection without a request is kept for so long"""
LEAVING_S = 3.0
"""for answers that are under way when the server ends"""
CONNECTIONS_MAX = 1000
"""at once; whoever comes then is told to come again"""
AGAIN_S = 5.0
"""after which they may"""
STALLED_S = 60.0
"""after which whoever takes nothing of an answer is given up"""
ADDRESS = re.compile(rb"(?i:https?)://([^/?#@]+)(/.*)?")
"""the target of a request as an address, up to its question mark: its host, and its path"""


class Impatient(H11Protocol):
    """HTTP as uvicorn speaks it, which ends connections on which no request comes.

    What is no request is refused in the words of the API, as all else is.
    """

    _waits: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        # asyncio does so itself, but not for a socket that it was handed. Without it the body of an
        # answer waits for whoever asks to confirm its head, which takes them up to 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expect_a_head()
        if len(self.connections) > CONNECTIONS_MAX:
            self.app = _crowded

    def data_received(self, data: bytes) -> None:
        """Something has come: a request, or a part of one."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._have_a_head()
        elif self._waits is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._have_a_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What has come is no request."""
        answer = refused(NotHttp(msg))
        head = h11.Response(
            status_code=answer.status_code,
            headers=answer.raw_headers,
            reason=HTTPStatus(answer.status_code).phrase.encode(),
        )
        try:
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # what came before it was answered, and nothing more can be said
        self.transport.close()

    def _expect_a_head(self) -> None:
        self._waits = asyncio.get_running_loop().call_later(HEAD_MAX_S, self._give_up)

    def _have_a_head(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one who has come while too many are there."""
    answer = refused(Busy("The server", AGAIN_S))
    answer.headers["connection"] = "close"
    await answer(scope, receive, send)


def _at_its_path(app: ASGIApp) -> ASGIApp:
    """An application that is reached by whole addresses, too, as through a proxy.

    `GET http://host/path` asks what `GET /path` does, of the host that it names: a header that
    names another one is not heeded (RFC 9112, 3.2.2).
    """

    async def found(scope: Scope, receive: Receive, send: Send) -> None:
        whole = ADDRESS.fullmatch(scope.get("raw_path", b""))
        if whole is not None:
            host, raw_path = whole[1], whole[2] or b"/"
            others = [pair for pair in scope["headers"] if pair[0] != b"host"]
            path = unquote(raw_path.decode("ascii"))
            headers = [(b"host", host), *others]
            scope = {**scope, "path": path, "raw_path": raw_path, "headers": headers}
        await app(scope, receive, send)

    return found


def _bounded(app: ASGIApp) -> ASGIApp:
    """An application whose requests have one end, and whose answers nobody holds up for ever."""

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            with anyio.fail_after(STALLED_S):
                await send(message)

        headers = Headers(scope=scope)
        try:
            # Of two lengths each side of a proxy could believe another one.
            if "content-length" in headers and "transfer-encoding" in headers:
                why = "must be left out beside Transfer-Encoding"
                await refused(BadRequest("Content-Length", why))(scope, receive, sent)
            else:
                await app(scope, receive, sent)
        except TimeoutError:
            return  # the server closes what was not answered to its end

    return bounded


def server(app: ASGIApp, **more: Any) -> uvicorn.Server:
    """An application as a server.

    Args:
        app: the application.
        more: of uvicorn's settings, such as `host` and `port`, or `fd`.
    """
    config = uvicorn.Config(
        _bounded(_at_its_path(app)),
        **{
            "http": Impatient,
            "ws": "none",
            "lifespan": "off",
            "loop": "asyncio",
            "access_log": False,
            "log_level": "error",
            "server_header": False,
            "proxy_headers": False,  # nothing here depends on who a proxy says has asked
            "timeout_keep_alive": int(IDLE_MAX_S),
            "timeout_graceful_shutdown": int(LEAVING_S),
            **more,
        },
    )
    return uvicorn.Server(config)
