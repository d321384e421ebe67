"""So many things at once, of which no tenant may take all."""

from __future__ import annotations

import time

from supervisor.jobs.errors import Busy, QuotaExceeded
from trainers.contract import Name


class Seats:
    """So many seats.

    With several tenants each may have as many as it leaves free beside all others: whoever takes
    all that they can get has half of them, two of these have half and a quarter, and somebody
    who has none finds one. (The dynamic threshold of Choudhury and Hahne, 1998, with alpha 1.)

    Args:
        quota: what they are called where a tenant has all that it may have.
        busy: who has enough to do where all are taken.
        most: how many there are.
        again_s: after which whoever was refused may come again, where nobody knows when a seat
            will be free.
        lasts_s: how long one is taken at most; None: nobody knows.
    """

    def __init__(
        self, quota: str, busy: str, most: int, again_s: float, lasts_s: float | None = None
    ) -> None:
        self._quota, self._busy, self._most = quota, busy, most
        self._again_s, self._lasts_s = again_s, lasts_s
        self._taken: set[Seat] = set()

    def take(self, tenant: Name | None, *, shared: bool) -> Seat:
        """One of them, until it is left: a context manager that has begun.

        Args:
            tenant: who asks for it; None: the operator.
            shared: whether there are several tenants.

        Raises:
            QuotaExceeded: the tenant has as many as it may have.
            Busy: all are taken.
        """
        own = {one for one in self._taken if one.tenant == tenant}
        free = self._most - len(self._taken)
        if shared and own and len(own) >= free:
            bound = max(1, (len(own) + free) // 2)
            raise QuotaExceeded(self._quota, len(own), bound, self._free_in_s(own))
        if free <= 0:
            raise Busy(self._busy, self._free_in_s(self._taken))
        seat = Seat(self._taken, tenant)
        self._taken.add(seat)
        return seat

    def _free_in_s(self, seats: set[Seat]) -> float:
        """When the first of some seats is free at the latest."""
        if self._lasts_s is None or not seats:
            return self._again_s
        return min(one.since_s for one in seats) + self._lasts_s - time.monotonic()


class Seat:
    """One seat, which is free again once it is left."""

    def __init__(self, taken: set[Seat], tenant: Name | None) -> None:
        self._taken, self.tenant = taken, tenant
        self.since_s = time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._taken.discard(self)
