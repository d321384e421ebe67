"""Requests for jobs as the document of the training pipeline prints them."""

import copy
import json
from pathlib import Path

FILE = Path(__file__).parents[1] / "tests/data/pipeline_requests.json"
PRINTED = json.loads(FILE.read_text(encoding="utf-8"))
"""what it calls them: their bodies, with what it leaves out as "..." missing"""


def whole(name="quick start", **config):
    """A body that can be sent: what is missing is as in the quick start.

    Args:
        name: of a printed body.
        config: keys of the configuration to set; one that is `...` is left out.
    """
    body, printed = copy.deepcopy(PRINTED["quick start"]), copy.deepcopy(PRINTED[name])
    inner = body["config"]
    other = printed.get("config", {}).get("algorithm", inner["algorithm"])
    if other != inner["algorithm"]:
        inner["hyperparameters"] = {}
    body["config"] = inner | printed.pop("config", {}) | config
    body["config"] = {key: it for key, it in body["config"].items() if it is not ...}
    return body | printed


def silence(store, job_id, for_s):
    """Have nobody have told of a claimed job for so long, by the clock of its store."""
    from state.jobs import tables  # noqa: PLC0415 - who only wants requests loads no SQLAlchemy

    jobs = tables.jobs
    earlier = {name: jobs.c[name] - for_s for name in ("claimed_at", "as_of")}
    with store._database.writing() as connection:
        connection.execute(jobs.update().where(jobs.c.job_id == job_id).values(**earlier))
