"""What a finished job has left: its files, each with the hash that it had when it was whole."""

from __future__ import annotations

import contextlib
import os
import re
from io import BufferedIOBase
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp

from state.jobs.records import Job
from supervisor.jobs.errors import NotFound, NotReady
from supervisor.jobs.left import LeftFile, NotAsLeft, files_left
from supervisor.web import asking
from supervisor.web.answers import Artifact, Artifacts
from supervisor.web.errors import BadRequest, NoSuchRange
from supervisor.web.jobs import BASE, JobPages
from supervisor.web.resource import BYTES, Operation, Owning
from supervisor.web.service import Service
from supervisor.web.telling import HEADERS, told
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
        found = await self._service.call(self._sized, job)
        artifacts = tuple(
            Artifact(
                name=one.name,
                size_bytes=size,
                sha256=one.sha256,
                url=f"{BASE}/jobs/{job.job_id}/artifacts/{one.name}",
            )
            for one, size in found
        )
        return told(Artifacts(job_id=job.job_id, artifacts=artifacts))

    async def get(self, request: Request) -> ASGIApp:
        """`GET /jobs/{id}/artifacts/{name}`."""
        job = await self._finished(request)
        name: str = request.path_params["name"]
        one, file = await self._service.call(self._opened, job, name)
        with contextlib.ExitStack() as opened:
            opened.enter_context(file)
            headers = {
                **HEADERS,
                "etag": f'"{one.sha256}"',
                "cache-control": "private, max-age=31536000",
            }
            if asking.has_seen(request, one.sha256):
                return Response(status_code=304, headers=headers)
            status = os.fstat(file.fileno())
            _see_range(request, status.st_size)
            # By its handle it is there for as long as it is open, whoever removes or moves it.
            answer = FileResponse(
                f"/proc/self/fd/{file.fileno()}",
                headers=headers,
                media_type=BYTES,
                filename=name,
                stat_result=status,
            )
            return Owning(answer, opened.pop_all())

    async def _finished(self, request: Request) -> Job:
        job = await self._jobs.find(request)
        if job.became.status != "COMPLETED":
            raise NotReady("artifacts", job.became.status)
        return job

    def _sized(self, job: Job) -> tuple[tuple[LeftFile, int], ...]:
        """What is there, and no link, each with its size; it may block.

        Raises:
            ClearedAway, Elsewhere: the folder is not here.
        """
        sized = [(one, _size(one.path)) for one in self._left(job)]
        found = tuple((one, size) for one, size in sized if size is not None)
        if not found:
            self._see_folder(job)
        return found

    def _opened(self, job: Job, name: str) -> tuple[LeftFile, BufferedIOBase]:
        """One of these files, open; it may block.

        Raises:
            NotFound: it is none of them.
            ClearedAway, Elsewhere: the folder is not here.
        """
        for one in self._left(job):
            if one.name == name:
                with contextlib.suppress(FileNotFoundError, durable.UnreadableFile):
                    return one, durable.open_regular(one.path)
        self._see_folder(job)
        raise NotFound("artifact", name)

    def _left(self, job: Job) -> tuple[LeftFile, ...]:
        try:
            return files_left(self._service.home.run(job.job_id))
        except NotAsLeft:
            return ()

    def _see_folder(self, job: Job) -> None:
        """See that the folder of a job is here, which may have gone since the job was read."""
        service = self._service
        if not service.home.run(job.job_id).path.exists():
            raise service.remembered.missing(service.store.get(job.job_id) or job, "files")


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
