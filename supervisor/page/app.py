"""The page as one ASGI application: its routes, and what is so of every answer."""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

import anyio
import anyio.to_thread
import msgspec
from anyio import CapacityLimiter
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from supervisor.access import Access, NoToken, Right, TooManyRefusals
from supervisor.errors import SupervisorError
from supervisor.page import static
from supervisor.page.asking import Answered, Asking, Unaskable
from supervisor.page.pages import Pages
from supervisor.page.refused import Missing, Refused
from supervisor.page.rendering import PARTS
from supervisor.page.stream import Stream
from trainers.contract import NAME, NewerFile

if TYPE_CHECKING:  # what tells Prometheus is loaded where somebody asks for it
    from supervisor.page.look import Look
    from supervisor.page.prometheus import Exposition

HTML, EVENTS = "text/html; charset=utf-8", "text/event-stream"
PACKED = (HTML, "application/json")
"""kinds of answers that are packed; nothing in them is secret, so their length betrays nothing"""
PACKED_MIN_BYTES, PACKED_LEVEL = 1000, 5
ACCEPTS_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?P<weight>[01](?:\.\d{0,3})?)\s*)?(?=,|$)")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""what a browser may load for the page, and from where: nothing but from here"""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # To our own pages alone: without it a browser would not say of a form which page has sent it.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
"""of every answer"""
FOR_EVER = "public, max-age=31536000, immutable"
NOT_KEPT = "no-store"
PIECE_BYTES = 2**16
"""of a file that are in memory at once"""
THREADS = 2
"""that read the home at once; whoever comes then waits"""
FORM_MAX_BYTES = 4096
FORM_MAX_S = 10.0
"""for a form to come"""
ASKED_MAX, ASKED_S = 30, 60.0
"""so many requests to the daemon within so many seconds"""
FORM = "application/x-www-form-urlencoded"
READS = ("GET", "HEAD")

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


class Application:
    """The page.

    Args:
        pages: what is shown.
        stream: what changes while somebody watches.
        asking: the buttons.
        access: who may look, and who may act.
        cookie: the name of the cookie that holds a pass; homes on one host have different ones.
    """

    def __init__(
        self, pages: Pages, stream: Stream, asking: Asking, access: Access, cookie: str
    ) -> None:
        self._pages, self._stream, self._asking = pages, stream, asking
        self._access, self._cookie = access, cookie
        self._threads = CapacityLimiter(THREADS)
        self._asked_at: list[float] = []
        self._static = static.files()
        routes = [
            Route(path, _Answered(self, handler, methods, open=path in OPEN), methods=None)
            for path, (handler, methods) in self._handlers().items()
        ]
        self._router = Router(routes, redirect_slashes=False, default=_Answered(self, _nothing, ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._router(scope, receive, _with_headers(send))

    def _handlers(self) -> dict[str, tuple[Handler, tuple[str, ...]]]:
        shows = READS
        return {
            "/": (self._main, shows),
            "/parts/{part}": (self._part, shows),
            "/events": (self._events, shows),
            "/state.json": (self._state, shows),
            "/runs/{run}": (self._run, shows),
            "/runs/{run}/lines": (self._lines, shows),
            "/runs/{run}/curves.json": (self._curves, shows),
            "/runs/{run}/preview.png": (self._preview, shows),
            "/runs/{run}/recording.gif": (self._recording, shows),
            "/jobs/{job}": (self._job, shows),
            "/decisions": (self._decisions, shows),
            "/decisions/{seq}": (self._decision, shows),
            "/ledger": (self._ledger, shows),
            "/goodput": (self._goodput, shows),
            "/metrics": (self._metrics, shows),
            "/ask/{kind}": (self._ask, (*READS, "POST")),
            "/answers/{request}": (self._answer, shows),
            "/enter": (self._enter, ("GET",)),  # it uses a link up
            "/static/{hash}/{name:path}": (self._file, shows),
        }

    # What every request goes through, in this order.

    def see_host(self, request: Request) -> None:
        """See that it was reached by a name of ours.

        Raises:
            Refused: a name of somebody else leads here.
        """
        host = request.headers.get("host", "")
        if not self._access.knows(host):
            raise Refused(
                403,
                f"{host[:80]!r} is no name of this machine",
                "Where it is one, write it into `hosts` of [web].",
            )

    def see_origin(self, request: Request) -> None:
        """See that what changes something was sent by a page of ours, or by no browser.

        Raises:
            Refused: a page of another site has sent it, or nobody can tell.
        """
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is not None:
            ours = site == "same-origin"
        elif origin is not None:
            ours = urlsplit(origin).netloc == request.headers.get("host", "")
        else:  # no browser that people use: it says by what no form can hold that it is none
            ours = "authorization" in request.headers
        if not ours:
            raise Refused(403, "This was not sent by a page of this server", AGAIN_FROM_THE_PAGE)

    def right(self, request: Request) -> Right:
        """What whoever asks may do.

        Raises:
            Refused: nothing.
        """
        found = self._right(request)
        if found is None:
            raise Refused(
                401,
                "Whoever looks here needs a link",
                "On that machine `supervisor serve --link` prints one.",
            )
        return found

    def _right(self, request: Request) -> Right | None:
        if not self._access.guarded:
            return "act"
        authorization = request.headers.get("authorization")
        given = request.cookies.get(self._cookie)
        if authorization is not None:
            found = self._access.bears(authorization)
        elif given is not None:
            found = self._access.holds(given)
        else:
            return None
        if found is None:
            self._refuse()
        return found

    def _refuse(self) -> None:
        try:
            self._access.refuse()
        except TooManyRefusals as error:
            raise Refused(
                429, "Too many have come with what lets nobody in", "Wait a minute.",
                retry_after_s=error.retry_after_s,
            ) from None  # fmt: skip

    # What there is to see.

    async def _main(self, request: Request) -> Response:
        look, _, seen = await self._stream.now(request.state.right)
        return self._html(
            await self._read(self._pages.main, look, request.state.right, seen, _query(request))
        )

    async def _part(self, request: Request) -> Response:
        name = request.path_params["part"]
        if name not in PARTS:
            raise Missing("part of the page", name)
        look, parts, _ = await self._stream.now(request.state.right)
        query = _query(request)
        if query:
            return self._html(
                await self._read(self._pages.part, look, request.state.right, name, query)
            )
        return self._html(parts[name].html)

    async def _events(self, request: Request) -> Response:
        if self._stream.is_full:
            raise Refused(503, "Too many watch this page", "Close a tab.", retry_after_s=30)
        seen = request.headers.get("last-event-id") or request.query_params.get("seen", "")
        right = request.state.right
        if request.method == "HEAD":
            return Response(media_type=EVENTS)

        def may() -> bool:
            try:
                return bool(self._right(request) == right)
            except (Refused, NoToken):
                return False

        pieces = self._stream.follow(right, seen, may)
        headers = {"x-accel-buffering": "no"}  # buffered by a proxy it would be no stream
        return StreamingResponse(pieces, media_type=EVENTS, headers=headers)

    async def _state(self, request: Request) -> Response:
        look, _, _ = await self._stream.now(request.state.right)
        return Response(msgspec.json.encode(look.report), media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        look, _, _ = await self._stream.now(request.state.right)
        accepted = request.headers.get("accept", "")
        told = await self._read(_exposition(), look, accepted)
        return Response(told.content, headers={"content-type": told.content_type})

    async def _run(self, request: Request) -> Response:
        return await self._page_of(request, self._pages.run, _name(request, "run"))

    async def _lines(self, request: Request) -> Response:
        look, _, _ = await self._stream.now(request.state.right)
        after = request.query_params.get("after", "")
        content = await self._read(self._pages.lines, look, _name(request, "run"), after)
        return Response(content, media_type="application/json")

    async def _curves(self, request: Request) -> Response:
        look, _, _ = await self._stream.now(request.state.right)
        content = await self._read(self._pages.curves, look, _name(request, "run"), _query(request))
        return Response(content, media_type="application/json")

    async def _preview(self, request: Request) -> Response:
        look, _, _ = await self._stream.now(request.state.right)
        content = await self._read(self._pages.preview, look, _name(request, "run"))
        return Response(content, media_type="image/png")

    async def _recording(self, request: Request) -> Response:
        look, _, _ = await self._stream.now(request.state.right)
        file, size = await self._read(self._pages.recording, look, _name(request, "run"))
        headers = {"content-length": str(size)}
        if request.method == "HEAD":
            file.close()
            return Response(headers=headers, media_type="image/gif")
        return StreamingResponse(self._pieces(file, size), media_type="image/gif", headers=headers)

    async def _pieces(self, file: BinaryIO, size: int) -> AsyncIterator[bytes]:
        """The first bytes of a file, which ends with them; nothing of it is kept."""
        with file:
            while size and (piece := await self._read(file.read, min(size, PIECE_BYTES))):
                size -= len(piece)
                yield piece

    async def _job(self, request: Request) -> Response:
        return await self._page_of(request, self._pages.job, _name(request, "job"))

    async def _decisions(self, request: Request) -> Response:
        return await self._page_of(request, self._pages.decisions, _query(request))

    async def _decision(self, request: Request) -> Response:
        text = request.path_params["seq"]
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise Missing("decision", text)
        return await self._page_of(request, self._pages.decision, int(text))

    async def _ledger(self, request: Request) -> Response:
        return await self._page_of(request, self._pages.ledger)

    async def _goodput(self, request: Request) -> Response:
        return await self._page_of(request, self._pages.goodput)

    async def _page_of(self, request: Request, make: Callable[..., str], *more: object) -> Response:
        right = request.state.right
        look, _, _ = await self._stream.now(right)
        return self._html(await self._read(make, look, right, *more))

    async def _file(self, request: Request) -> Response:
        found = self._static.get(request.url.path)
        if found is None:
            raise Missing("file", request.path_params["name"])
        headers = {"cache-control": FOR_EVER, "vary": "accept-encoding"}
        if _takes_packed(request.headers.get("accept-encoding", "")):
            headers["content-encoding"] = "gzip"
            return Response(found.packed, media_type=found.kind, headers=headers)
        return Response(found.content, media_type=found.kind, headers=headers)

    # What there is to do.

    async def _ask(self, request: Request) -> Response:
        right: Right = request.state.right
        if right != "act":
            raise Refused(
                403,
                "With this link one may look, and not act",
                "On that machine `supervisor serve --link act` prints one that lets you act.",
            )
        fields = _query(request) if request.method != "POST" else await _form(request)
        look, _, _ = await self._stream.now(right)
        kind = request.path_params["kind"]
        try:
            asked = self._asking.asked(kind, fields, look)
        except Unaskable as error:
            raise Refused(400, str(error), AGAIN_FROM_THE_PAGE) from None
        if request.method != "POST":
            return self._html(await self._read(self._pages.ask, look, right, asked))
        self._see_pace()
        done = await self._read(self._asking.put, asked)
        if isinstance(done, Answered):
            return self._html(await self._read(self._pages.answer, look, right, done))
        return RedirectResponse(f"/answers/{quote(done)}", 303)

    async def _answer(self, request: Request) -> Response:
        asked = _name(request, "request")
        found = await self._read(self._asking.answered, asked)
        if found is None:
            raise Missing("answer", asked)
        return await self._page_of(request, self._pages.answer, found)

    async def _enter(self, request: Request) -> Response:
        link = request.query_params.get("link", "")
        opened = await self._read(self._access.open, link)
        if opened is None:
            self._refuse()
            raise Refused(
                401,
                "This link lets nobody in any more",
                "On that machine `supervisor serve --link` prints a new one.",
            )
        _, one, lasts_s = opened
        # No redirect: after one that began at another site, a strict cookie would not be sent.
        answer = self._html(await self._read(self._pages.entered))
        answer.set_cookie(
            self._cookie, one, int(lasts_s), path="/", httponly=True, samesite="strict"
        )
        return answer

    def _see_pace(self) -> None:
        """See that no more is asked of the daemon than a person asks.

        Raises:
            Refused: it is.
        """
        now_s = anyio.current_time()
        self._asked_at = [at_s for at_s in self._asked_at if now_s - at_s < ASKED_S]
        if len(self._asked_at) >= ASKED_MAX:
            raise Refused(
                429, "Too much was asked within a minute", "Wait a minute.",
                retry_after_s=int(ASKED_S),
            )  # fmt: skip
        self._asked_at.append(now_s)

    async def _read(self, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do in a thread what reads the home."""
        return await anyio.to_thread.run_sync(partial(act, *args, **kwargs), limiter=self._threads)

    def _html(self, text: str) -> Response:
        return Response(text, media_type=HTML)

    def refused(self, request: Request, error: Refused) -> Response:
        """An answer that refuses: a page for people, a line for programs."""
        headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
        if error.status == 401:
            headers["www-authenticate"] = 'Bearer realm="training"'
        if error.allowed:
            headers["allow"] = ", ".join(error.allowed)
        if "text/html" in request.headers.get("accept", ""):
            return Response(self._pages.refused(error), error.status, headers, HTML)
        text = f"{error.sentence}. {error.hint}\n"
        return Response(text, error.status, headers, "text/plain; charset=utf-8")


AGAIN_FROM_THE_PAGE = "Go back to the page, and press the button there."
OPEN = ("/enter", "/static/{hash}/{name:path}")
"""paths at which nobody needs a pass: they tell nothing of the home"""


class _Answered:
    """One path: whatever is wrong with a request ends in an answer of ours.

    Args:
        app: the application.
        handler: of the requests that may be.
        methods: which it takes; none: there is nothing.
        open: whether nobody needs a pass.
    """

    def __init__(
        self,
        app: Application,
        handler: Handler,
        methods: tuple[str, ...],
        *,
        open: bool = False,  # noqa: A002 - as one says
    ) -> None:
        self._app, self._handler, self._methods, self._open = app, handler, methods, open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return  # nobody is left to be answered
        if response.media_type in PACKED:
            _pack(response, request.headers.get("accept-encoding", ""))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            self._app.see_host(request)
            if request.method not in READS:
                self._app.see_origin(request)
            if not self._open:
                request.state.right = self._app.right(request)
            if self._methods and request.method not in self._methods:
                raise Refused(
                    405, f"{request.method[:20]} is not for this path", "", allowed=self._methods
                )
            return await self._handler(request)
        except Refused as error:
            return self._app.refused(request, error)
        except (SupervisorError, NewerFile, OSError) as error:
            # Whoever was not let in learns nothing of the home, and errors name its paths.
            sentence = "It cannot be told now who may look"
            if hasattr(request.state, "right"):
                sentence = next(iter(str(error).splitlines()), type(error).__name__)[:500]
            return self._app.refused(request, Refused(503, sentence, "", retry_after_s=10))
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("%s %s", request.method, request.url.path)
            sentence = "Something is wrong here"
            return self._app.refused(
                request, Refused(500, sentence, "The log of the server says what.")
            )


def _exposition() -> Callable[[Look, str], Exposition]:
    """What tells Prometheus: a library of 2 MB, which most homes never need."""
    from supervisor.page.prometheus import exposition  # noqa: PLC0415 - as above

    return exposition


def _takes_packed(accepted: str) -> bool:
    """Whether a header `Accept-Encoding` takes gzip, which `gzip;q=0` does not."""
    found = ACCEPTS_GZIP.search(accepted.lower())
    return found is not None and float(found["weight"] or 1) > 0


def _pack(response: Response, accepted: str) -> None:
    """Make it short for whoever can read that: a page takes a telephone a seventh of the time."""
    response.headers["vary"] = "accept-encoding"
    if not _takes_packed(accepted) or len(response.body) < PACKED_MIN_BYTES:
        return
    response.body = gzip.compress(bytes(response.body), PACKED_LEVEL, mtime=0)
    response.headers["content-encoding"] = "gzip"
    response.headers["content-length"] = str(len(response.body))


async def _nothing(request: Request) -> Response:
    raise Missing("page", request.url.path)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", NOT_KEPT)
        await send(message)

    return sent


def _query(request: Request) -> dict[str, str]:
    return dict(request.query_params)


def _name(request: Request, what: str) -> str:
    """A name in the path.

    Raises:
        Missing: nothing has such a name.
    """
    given: str = request.path_params[what]
    if not NAME.fullmatch(given):
        raise Missing(what, given)
    return given


async def _form(request: Request) -> dict[str, str]:
    """What a form has sent.

    Raises:
        Refused: it is none, or too much.
    """
    found = bytearray()
    try:
        with anyio.fail_after(FORM_MAX_S):
            async for piece in request.stream():
                found += piece
                if len(found) > FORM_MAX_BYTES:
                    raise Refused(413, "No form is so long", AGAIN_FROM_THE_PAGE)
    except TimeoutError:
        raise Refused(408, "The form has not come", AGAIN_FROM_THE_PAGE) from None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found and kind != FORM:
        raise Refused(415, f"A form is sent as {FORM}", AGAIN_FROM_THE_PAGE)
    try:
        return dict(parse_qsl(found.decode("ascii"), max_num_fields=20, strict_parsing=False))
    except (UnicodeDecodeError, ValueError):
        raise Refused(400, "This is no form", AGAIN_FROM_THE_PAGE) from None
