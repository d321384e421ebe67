"""What a finished job has left: its files, each with the hash that it had when it was whole."""

from __future__ import annotations

import os
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from state.jobs.records import Job
from supervisor.jobs.errors import NotFound, NotReady
from supervisor.web import asking
from supervisor.web.answers import Artifact, Artifacts
from supervisor.web.errors import BadRequest, Elsewhere, NoSuchRange
from supervisor.web.jobs import BASE, JobPages
from supervisor.web.resource import BYTES, HEADERS, Operation, told
from supervisor.web.service import Service
from trainers import durable

SUMS = "SHA256SUMS"
"""what a trainer writes last of what it leaves: hashes and names of the other files"""
SUMS_MAX_BYTES = 2**20
SUM = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9_.-]*)")
RANGES = re.compile(r"bytes=[0-9, -]{1,200}")
RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})|bytes=-(\d{1,18})")


class ArtifactPages:
    """The files of finished jobs.

    Args:
        service: what all share.
        jobs: which find the job of a path.
    """

    def __init__(self, service: Service, jobs: JobPages) -> None:
        self._service, self._jobs = service, jobs

    def all(self) -> dict[str, dict[str, Operation]]:
        """Path: method: what is done."""
        return {
            f"{BASE}/jobs/{{job_id}}/artifacts": {
                "GET": Operation(
                    "list_artifacts", "The files that a finished job has left", self.list,
                    {200: Artifacts}, (404, 409),
                )
            },
            f"{BASE}/jobs/{{job_id}}/artifacts/{{name}}": {
                "GET": Operation(
                    "get_artifact", "One of these files, or a range of it", self.get,
                    {200: bytes, 206: bytes, 304: None}, (400, 404, 409, 416),
                    headers=("Range", "If-Range", "If-None-Match"), media=(BYTES,),
                )
            },
        }  # fmt: skip

    async def list(self, request: Request) -> Response:
        """`GET /jobs/{id}/artifacts`."""
        job = await self._finished(request)
        found = await self._service.call(self._left, job)
        artifacts = tuple(
            Artifact(
                name=name,
                size_bytes=size,
                sha256=digest,
                url=f"{BASE}/jobs/{job.job_id}/artifacts/{name}",
            )
            for name, (digest, size) in found.items()
        )
        return told(Artifacts(job_id=job.job_id, artifacts=artifacts))

    async def get(self, request: Request) -> Response:
        """`GET /jobs/{id}/artifacts/{name}`."""
        job = await self._finished(request)
        name: str = request.path_params["name"]
        found = await self._service.call(self._left, job)
        if name not in found:
            raise NotFound("artifact", name)
        digest, size = found[name]
        headers = {**HEADERS, "etag": f'"{digest}"', "cache-control": "private, max-age=31536000"}
        if asking.has_seen(request, digest):
            return Response(status_code=304, headers=headers)
        _see_range(request, size)
        path = self._service.home.run(job.job_id).path / name
        return FileResponse(path, headers=headers, media_type=BYTES, filename=name)

    async def _finished(self, request: Request) -> Job:
        job = await self._jobs.find(request)
        if job.became.status != "COMPLETED":
            raise NotReady("artifacts", job.became.status)
        if job.claim is not None and not self._service.home.run(job.job_id).path.exists():
            raise Elsewhere("files", job.claim.home)
        return job

    def _left(self, job: Job) -> dict[str, tuple[str, int]]:
        """Name: hash and size, of what is there and no link; it may block."""
        folder = self._service.home.run(job.job_id).path
        try:
            lines = durable.read(folder / SUMS, SUMS_MAX_BYTES).decode().splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        found = {}
        for line in lines:
            match = SUM.fullmatch(line)
            size = None if match is None else _size(folder / match[2])
            if match is not None and size is not None:
                found[match[2]] = (match[1], size)
        return found


def _size(path: Path) -> int | None:
    try:
        with durable.open_regular(path) as file:
            return os.fstat(file.fileno()).st_size
    except OSError:
        return None


def _see_range(request: Request, size: int) -> None:
    """See that a range makes sense, which otherwise would be refused in other words than ours.

    Raises:
        BadRequest: it is none.
        NoSuchRange: it lies beyond the end.
    """
    given = request.headers.get("range")
    if given is None:
        return
    if not RANGES.fullmatch(given):
        raise BadRequest("Range", "must be one such as bytes=0-1023")
    match = RANGE.fullmatch(given)
    if match is None:
        raise BadRequest("Range", "must be one range, such as bytes=0-1023")
    if (match[1] is not None and int(match[1]) >= size) or match[3] == "0":
        raise NoSuchRange(size)
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        raise BadRequest("Range", "must not end before it begins")
