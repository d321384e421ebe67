"""What a finished job has left: its files, each with the hash that it had when it was whole."""

from __future__ import annotations

import os
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from state.jobs.records import Job
from supervisor.jobs.errors import NotFound, NotReady
from supervisor.jobs.left import LeftFile, NotAsLeft, files_left
from supervisor.web import asking
from supervisor.web.answers import Artifact, Artifacts
from supervisor.web.errors import BadRequest, ClearedAway, Elsewhere, NoSuchRange
from supervisor.web.jobs import BASE, JobPages
from supervisor.web.resource import BYTES, HEADERS, Operation, told
from supervisor.web.service import Service
from trainers import durable

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
                    {200: Artifacts}, (404, 409, 410),
                )
            },
            f"{BASE}/jobs/{{job_id}}/artifacts/{{name}}": {
                "GET": Operation(
                    "get_artifact", "One of these files, or a range of it", self.get,
                    {200: bytes, 206: bytes, 304: None}, (400, 404, 409, 410, 416),
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
                name=one.name,
                size_bytes=size,
                sha256=one.sha256,
                url=f"{BASE}/jobs/{job.job_id}/artifacts/{one.name}",
            )
            for one, size in found.values()
        )
        return told(Artifacts(job_id=job.job_id, artifacts=artifacts))

    async def get(self, request: Request) -> Response:
        """`GET /jobs/{id}/artifacts/{name}`."""
        job = await self._finished(request)
        name: str = request.path_params["name"]
        found = await self._service.call(self._left, job)
        if name not in found:
            raise NotFound("artifact", name)
        one, size = found[name]
        etag = f'"{one.sha256}"'
        headers = {**HEADERS, "etag": etag, "cache-control": "private, max-age=31536000"}
        if asking.has_seen(request, one.sha256):
            return Response(status_code=304, headers=headers)
        _see_range(request, size)
        return FileResponse(one.path, headers=headers, media_type=BYTES, filename=name)

    async def _finished(self, request: Request) -> Job:
        job = await self._jobs.find(request)
        if job.became.status != "COMPLETED":
            raise NotReady("artifacts", job.became.status)
        if job.claim is not None and not self._service.home.run(job.job_id).path.exists():
            if not job.became.kept_bytes:
                raise ClearedAway("files")
            raise Elsewhere("files", job.claim.home)
        return job

    def _left(self, job: Job) -> dict[str, tuple[LeftFile, int]]:
        """By name what is there, and no link, each with its size; it may block."""
        try:
            files = files_left(self._service.home.run(job.job_id))
        except NotAsLeft:
            return {}
        sized = {one.name: (one, _size(one.path)) for one in files}
        return {name: (one, size) for name, (one, size) in sized.items() if size is not None}


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
