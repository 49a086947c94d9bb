"""Whether a job of this name runs on the cluster already: both would read the same messages and count them twice."""

import json
from collections.abc import Mapping
from typing import Final
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S: Final = 10.0
_SESSION: Final = ("remote", "embedded")  # by Flink's command line; by REST, the dashboard or an operator
ENDED: Final = frozenset(("FINISHED", "FAILED", "CANCELED", "SUSPENDED"))  # states of a job that does not run again
_OWN_ID: Final = "$internal.pipeline.job-id"  # of a job that an application cluster recovers


class AlreadyRuns(SystemExit):
    """Another job of this name runs: the program ends with this sentence and code 1."""


def refuse_second(name: str, flink: Mapping[str, str]) -> None:
    """Raise AlreadyRuns if the cluster runs a job of this name. flink: Flink's settings where the program runs.

    This holds for every way of submission; `reasoner submit` says it earlier. A cluster whose REST API does not answer
    here (certificates, an application cluster that is just starting) is not asked again.
    """
    if flink.get("execution.target") not in _SESSION:
        return
    for job in _overview(flink):
        if job["name"] == name and job["state"] not in ENDED and job["jid"] != flink.get(_OWN_ID):
            raise AlreadyRuns(already_runs(name, job["state"], job["jid"]))


def already_runs(name: str, state: str, job_id: str, target: str = "") -> str:
    """Return why a second job of this name is refused, with the next step. target: address of the cluster, if known."""
    return (
        f"job {name} is {state} on {target or 'this cluster'} already ({job_id}): stop it with `reasoner stop {name}"
        f"{target and f' --target {target}'}`, or give this one its own name, kafka.group_id and sink topics"
    )


def _overview(flink: Mapping[str, str]) -> list[dict[str, str]]:
    scheme = "https" if flink.get("security.ssl.rest.enabled") == "true" else "http"
    host = flink.get("rest.address") or flink.get("jobmanager.rpc.address", "localhost")
    url = f"{scheme}://{host}:{flink.get('rest.port', '8081')}/jobs/overview"
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S) as answer:
            jobs: list[dict[str, str]] = json.load(answer)["jobs"]
            return jobs
    except (OSError, ValueError):
        return []
