"""What is told of this place: whether it is well, what it has and has had, which models."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from state.jobs import records
from state.jobs.database import StoreError
from state.jobs.records import Foretold, TenantUsage
from supervisor.core.eta import LATENESS_MAX
from supervisor.core.fairness import Quota
from supervisor.jobs.contract import Check, Cluster, Health, Models, TenantId
from supervisor.jobs.errors import NotFound
from supervisor.jobs.settings import GIB, account_of
from supervisor.jobs.telling import told_of_model
from supervisor.web import asking
from supervisor.web.answers import EtaScore, Stats, Usage
from supervisor.web.jobs import BASE
from supervisor.web.resource import Operation
from supervisor.web.service import Service
from supervisor.web.telling import told

HOUR_S = 3600


class ModelsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose models `GET /models` is asked for."""

    tenant_id: TenantId | None = None


class PlacePages:
    """What is told of this place.

    Args:
        service: what all share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def all(self) -> dict[str, dict[str, Operation]]:
        """Path: method: what is done."""
        health = {200: Health, 503: Health}
        return {
            "/health": {
                "GET": Operation(
                    "get_health", "Whether all is well", self.health, health, open=True
                )
            },
            f"{BASE}/health": {
                "GET": Operation("get_training_health", "The same", self.health, health, open=True)
            },
            f"{BASE}/stats": {
                "GET": Operation("get_stats", "How many jobs there are", self.stats, {200: Stats})
            },
            f"{BASE}/tenants/{{tenant_id}}/usage": {
                "GET": Operation(
                    "get_usage", "What a tenant has, has had, and may have", self.usage,
                    {200: Usage}, (404,),
                )
            },
            f"{BASE}/models": {
                "GET": Operation(
                    "list_models", "The models that jobs have left", self.models,
                    {200: Models}, (422,), query=ModelsQuery,
                )
            },
            f"{BASE}/models/{{name}}/versions": {
                "GET": Operation(
                    "list_versions", "All versions of a model", self.models,
                    {200: Models}, (404, 422), query=ModelsQuery,
                )
            },
            f"{BASE}/ray/clusters": {
                "GET": Operation(
                    "list_clusters", "Clusters of workers, of which there are none",
                    self.clusters, {200: list[Cluster]},
                )
            },
        }  # fmt: skip

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - it asks for nothing more
        """`GET /health`: of a place with tenants, to whom it belongs, no more than whether."""
        found = await self._service.call(self._health)
        if self._service.guarded:
            checks = {
                name: Check(ok=check.ok, message="ok" if check.ok else "not ok")
                for name, check in found.checks.items()
            }
            found = Health(status=found.status, checks=checks)
        return told(found, 200 if found.status == "healthy" else 503)

    async def stats(self, request: Request) -> Response:
        """`GET /stats`: of all tenants, or of the one that asks."""
        service, mine = self._service, request.state.tenant
        usages, told_before = await service.call(
            lambda: (
                service.store.tenants(mine),
                service.store.foretold(LATENESS_MAX, tenant=mine),
            )
        )
        now_at = service.now_at
        jobs: dict[records.Status, int] = {}
        for usage in usages:
            for status, count in usage.jobs.items():
                jobs[status] = jobs.get(status, 0) + count
        since = [one.waiting_since_at for one in usages if one.waiting_since_at is not None]
        found = Stats(
            tenants=len(usages),
            jobs=jobs,
            running=sum(one.claimed for one in usages),
            waiting=sum(_waiting(one) for one in usages),
            oldest_waiting_since=datetime.fromtimestamp(min(since), UTC) if since else None,
            kept_bytes=sum(one.kept_bytes for one in usages),
            cpu_hours_today=sum(account_of(one, now_at).cpu_s_today for one in usages) / HOUR_S,
            eta=_score(told_before),
        )
        return told(found)

    async def usage(self, request: Request) -> Response:
        """`GET /tenants/{id}/usage`."""
        service = self._service
        name = asking.name(request, "tenant", "tenant_id")
        if request.state.tenant not in (None, name):
            raise NotFound("tenant", name)
        found = await service.call(service.store.tenants, name)
        if not found and name not in service.quotas:
            raise NotFound("tenant", name)
        nothing = TenantUsage(
            tenant_id=name,
            jobs={},
            claimed=0,
            kept_bytes=0,
            claimed_at=None,
            waiting_since_at=None,
            hours=(),
        )
        usage = found[0] if found else nothing
        return told(_usage(usage, service.quotas.get(name, Quota()), service.now_at))

    async def models(self, request: Request) -> Response:
        """`GET /models` and `GET /models/{name}/versions`."""
        service = self._service
        asked = asking.query(request, ModelsQuery)
        mine = request.state.tenant
        name = None
        if "name" in request.path_params:
            name = asking.name(request, "model", "name")
        found: tuple[records.ModelVersion, ...] = ()
        if mine is None or asked.tenant_id in (None, mine):
            found = await service.call(service.store.models, mine or asked.tenant_id, name)
        if name is not None and not found:
            raise NotFound("model", name)
        return told(Models(models=tuple(told_of_model(one) for one in found)))

    async def clusters(self, request: Request) -> Response:  # noqa: ARG002 - as above
        """`GET /ray/clusters`."""
        return told([])

    def _health(self) -> Health:
        store, home = self._service.store, self._service.home
        least = self._service.settings.jobs.min_free_gib
        try:
            waiting = store.waiting()
            database = Check(ok=True, message=f"{store.shown} answers")
            queue = Check(ok=True, message=f"{waiting} jobs wait")
        except StoreError as error:
            database = Check(ok=False, message=str(error))
            queue = Check(ok=False, message="Nobody can tell while the database does not answer")
        running = home.holder() is not None
        start = f"No supervisor is running here: supervisor --home {home.path} run"
        daemon = Check(ok=running, message="A supervisor is running" if running else start)
        free_gib = shutil.disk_usage(home.path).free / GIB
        disk = Check(
            ok=free_gib >= least, message=f"{free_gib:.1f} GiB are free; jobs wait below {least:g}"
        )
        well = all(check.ok for check in (database, daemon, disk, queue))
        return Health(
            status="healthy" if well else "degraded",
            checks={"database": database, "daemon": daemon, "disk": disk, "queue": queue},
        )


def _waiting(usage: TenantUsage) -> int:
    living = usage.jobs.get("PENDING", 0) + usage.jobs.get("RUNNING", 0)
    return living - usage.claimed


def _score(told_before: Sequence[Foretold]) -> EtaScore:
    def part(met: int) -> float | None:
        return met / len(told_before) if told_before else None

    return EtaScore(
        jobs=len(told_before),
        p90_coverage=part(sum(one.waited_s <= one.eta_p90_s for one in told_before)),
        median_coverage=part(sum(one.waited_s <= one.eta_s for one in told_before)),
    )


def _usage(usage: TenantUsage, quota: Quota, now_at: float) -> Usage:
    return Usage(
        tenant_id=usage.tenant_id,
        jobs=usage.jobs,
        running=usage.claimed,
        waiting=_waiting(usage),
        kept_bytes=usage.kept_bytes,
        cpu_hours_today=account_of(usage, now_at).cpu_s_today / HOUR_S,
        weight=quota.weight,
        concurrent_max=quota.concurrent,
        waiting_max=quota.queued,
        kept_bytes_max=quota.stored_bytes,
        cpu_hours_a_day_max=quota.cpu_hours_per_day,
    )
