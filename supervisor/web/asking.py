"""What a request says beside its path: who asks, its body, which version it has seen."""

from __future__ import annotations

import hashlib
import re
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
from starlette.requests import Request

from state.jobs.records import Job, Once
from supervisor.jobs.errors import (
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    TooLarge,
    Unauthorized,
)
from supervisor.jobs.reading import BODY_MAX_BYTES, read, read_query
from supervisor.web.errors import BadRequest, ForeignPage, TooSlow, WrongEncoding, WrongType
from supervisor.web.service import Service
from trainers.contract import NAME

BODY_MAX_S = 20.0
"""for a body to come"""
WAIT_MAX_S = 60.0
KEY = re.compile(r'"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x2b\x2d-\x7e]{1,255})')
"""an Idempotency-Key: a text in quotes as its draft has it, or bare as most write it"""
TAG = re.compile(r'(?:W/)?"([^"]*)"')
WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")
FORM = "application/x-www-form-urlencoded"
SAME = ("same-origin", "none")
"""what a browser says of a page of ours, or of what a person has typed"""
NO_TENANT = "default"
"""whose tables are meant where nobody says it, and who asks bears no token"""

T = TypeVar("T")


def asker(request: Request, service: Service) -> str | None:
    """The tenant that asks; None: the operator, who may ask for any.

    Raises:
        Unauthorized: a token is needed, and this is none.
    """
    if not service.guarded:
        return None
    authorization = request.headers.get("authorization", "")
    if service.access.bears(authorization) == "act":
        return None
    scheme, _, token = authorization.partition(" ")
    found = service.tokens.whose(token.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise Unauthorized
    return found


def see_asker(request: Request, service: Service) -> None:
    """See that whoever was let in may be told more: settings may have changed meanwhile.

    Raises:
        Unauthorized: the token is nobody's any more, or another's, or by now one is needed.
    """
    if asker(request, service) not in (None, request.state.tenant):
        raise Unauthorized


def see_origin(request: Request, service: Service) -> None:
    """See that no page of another site asks, which a browser would let by.

    Without tokens whoever reaches us is the operator, a person's browser too. So what it says of a
    page counts, and the name by which it was reached: one that leads to this machine since a
    stranger's name server says so is none of ours.

    Raises:
        ForeignPage: one does.
    """
    host = request.headers.get("host", "")
    if not service.guarded and not service.access.knows(host):
        raise ForeignPage("Host", host)
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    if not is_same_origin(request):
        name = "Origin" if "origin" in request.headers else "Sec-Fetch-Site"
        raise ForeignPage(name, request.headers.get(name, ""))


def is_same_origin(request: Request) -> bool:
    """Whether no browser asks, or one for a page of ours."""
    if request.headers.get("sec-fetch-site", "none") not in SAME:
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


async def body(
    request: Request, service: Service, kind: type[T], *, curl: bool = False
) -> tuple[bytes, T]:
    """The body as it came, and as a value.

    Args:
        request: with a body.
        service: in whose threads it is read.
        kind: a struct of the contract.
        curl: whether JSON passes, too, that is said to be a form, as curl says of all that it
            sends; a form of another site's page does not.

    Raises:
        JobError: it is none.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = given == "application/json" or given.endswith("+json")
    if not is_json and not (curl and given in ("", FORM) and is_same_origin(request)):
        raise WrongType(given)
    packed = request.headers.get("content-encoding", "identity").strip()
    if packed.lower() not in ("", "identity"):
        raise WrongEncoding(packed)
    raw = await content(request)
    return raw, await service.call(read, raw, kind)


async def content(request: Request) -> bytes:
    """The body as it came, as far as it makes sense.

    Raises:
        TooLarge: it is longer than any that does.
        TooSlow: it does not come.
    """
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and int(said[:20]) > BODY_MAX_BYTES:
        raise TooLarge(int(said[:20]), BODY_MAX_BYTES)
    found = bytearray()
    try:
        with anyio.fail_after(BODY_MAX_S):
            async for piece in request.stream():
                found += piece
                if len(found) > BODY_MAX_BYTES:
                    raise TooLarge(len(found), BODY_MAX_BYTES)
    except TimeoutError:
        raise TooSlow(BODY_MAX_S) from None
    return bytes(found)


async def gone(request: Request) -> None:
    """Wait until whoever asks has gone; the whole body has come before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def query(request: Request, kind: type[T]) -> T:
    """What stands behind the question mark, as a value."""
    return read_query(request.query_params.multi_items(), kind)


def name(request: Request, what: str, key: str) -> str:
    """A name in the path.

    Raises:
        NotFound: nothing has such a name.
    """
    given: str = request.path_params[key]
    if not NAME.fullmatch(given):
        raise NotFound(what, given)
    return given


def once(request: Request, tenant: str, route: str, content: bytes) -> Once | None:
    """By which the request is known again; None: it has no Idempotency-Key.

    Raises:
        BadRequest: it has one that is none.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    match = KEY.fullmatch(given[0])
    if match is None:
        raise BadRequest("Idempotency-Key", "must be a text of 1 to 255 visible characters")
    if len(given) > 1:
        raise BadRequest("Idempotency-Key", "must stand there once")
    digest = hashlib.sha256(content).hexdigest()
    return Once(tenant_id=tenant, route=route, key=match[1] or match[2], body_sha256=digest)


def tag(version: int) -> str:
    """The ETag of a version."""
    return f'"{version}"'


def see_version(request: Request, job: Job, *, required: bool) -> None:
    """See that whoever changes a job has seen it as it is.

    Raises:
        PreconditionFailed: they have seen another version.
        PreconditionRequired: they do not say which.
    """
    given = _listed(request, "if-match")
    if given is None:
        if required:
            raise PreconditionRequired
    elif given.strip() != "*" and str(job.version) not in TAG.findall(given):
        raise PreconditionFailed(job.version)


def has_seen(request: Request, version: int | str) -> bool:
    """Whether whoever asks has that version already."""
    given = _listed(request, "if-none-match")
    return given is not None and (given.strip() == "*" or str(version) in TAG.findall(given))


def _listed(request: Request, header: str) -> str | None:
    """A header that holds a list, which may be spread over several of its name."""
    found = request.headers.getlist(header)
    return ", ".join(found) if found else None


def waits_s(request: Request) -> float:
    """How long whoever asks would wait for a change: `Prefer: wait=30`."""
    match = WAIT.search(request.headers.get("prefer", ""))
    return 0.0 if match is None else min(WAIT_MAX_S, float(match[1]))
