"""Whether a job of this name runs on the cluster already: both would read the same messages and count them twice."""

import json
from collections.abc import Mapping
from typing import Final
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S: Final = 10.0
_SESSION: Final = ("remote", "embedded")  # by Flink's command line; by REST, the dashboard or an operator
_ENDED: Final = ("FINISHED", "FAILED", "CANCELED", "SUSPENDED")
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
        if job["name"] == name and job["state"] not in _ENDED and job["jid"] != flink.get(_OWN_ID):
            message = (
                f"job {name} is {job['state']} on this cluster already ({job['jid']}): stop it with `reasoner stop "
                f"{name}`, or give this one its own name, kafka.group_id and sink topics"
            )
            raise AlreadyRuns(message)


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
