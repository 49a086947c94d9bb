"""Flink's REST API, as far as the command line and the tests need it."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from reasoner.errors import CommandFailed
from state_schemas.contracts.counters import MetricName

TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.2
COUNTERS: Final = frozenset(get_args(MetricName))
ENDED: Final = ("FINISHED", "FAILED", "CANCELED")


class NoAnswer(CommandFailed):
    """Nobody answers at the address: the cluster is not up, or has just ended."""


@dataclass(frozen=True, slots=True)
class FlinkRest:
    """url: of a JobManager or of a mini-cluster, such as http://127.0.0.1:8081."""

    url: str

    def get(self, path: str) -> Any:
        """The JSON behind a path. Raises CommandFailed with Flink's own message."""
        return self._call(Request(f"{self.url}{path}"))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Likewise, by POST."""
        data = json.dumps(body).encode()
        return self._call(Request(f"{self.url}{path}", data, {"Content-Type": "application/json"}))

    def jobs(self) -> dict[str, str]:
        """State of each job by its id."""
        return {job["id"]: job["status"] for job in self.get("/jobs")["jobs"]}

    def wait_for_state(self, job_id: str, wanted: str, deadline_s: float) -> None:
        """Raises CommandFailed where the job ends in another state or the deadline passes."""
        end_s = time.monotonic() + deadline_s
        while (state := self.jobs().get(job_id, "gone")) != wanted:
            if state in ENDED or time.monotonic() > end_s:
                message = f"job {job_id} is {state}, expected {wanted}; see {self.url}/jobs/{job_id}/exceptions"
                raise CommandFailed(message)
            time.sleep(_POLL_S)

    def stop(self, job_id: str, folder: str, *, drain: bool, deadline_s: float) -> str:
        """Stops with a savepoint in `folder`, whose path is returned. drain: event time ends, so all windows close."""
        asked = self.post(f"/jobs/{job_id}/stop", {"drain": drain, "targetDirectory": folder})
        return self._saved(job_id, asked["request-id"], deadline_s)

    def savepoint(self, job_id: str, folder: str, *, deadline_s: float) -> str:
        """Makes a savepoint in `folder`, whose path is returned; the job goes on."""
        asked = self.post(f"/jobs/{job_id}/savepoints", {"cancel-job": False, "target-directory": folder})
        return self._saved(job_id, asked["request-id"], deadline_s)

    def _saved(self, job_id: str, request_id: str, deadline_s: float) -> str:
        end_s = time.monotonic() + deadline_s
        while True:
            answer = self.get(f"/jobs/{job_id}/savepoints/{request_id}")
            if answer["status"]["id"] == "COMPLETED":
                break
            if time.monotonic() > end_s:
                message = f"job {job_id} has no savepoint after {deadline_s:.0f} s; see {self.url}/jobs/{job_id}"
                raise CommandFailed(message)
            time.sleep(_POLL_S)
        operation = answer["operation"]
        if "failure-cause" in operation:
            message = f"savepoint of {job_id} failed: {operation['failure-cause']['class']}; see the JobManager's log"
            raise CommandFailed(message)
        return str(operation["location"])

    def completed_checkpoints(self, job_id: str) -> int:
        """Checkpoints completed since the job started, restores included."""
        return int(self.get(f"/jobs/{job_id}/checkpoints")["counts"]["completed"])

    def restarts(self, job_id: str) -> int:
        """Most times that any subtask was started again.

        From the execution graph, not from the metric numRestarts: a JobManager that waits for the metrics of a
        TaskManager which has just died shows old values for minutes (`web.timeout`).
        """
        vertices = self.get(f"/jobs/{job_id}")["vertices"]
        subtasks = (self.get(f"/jobs/{job_id}/vertices/{vertex['id']}")["subtasks"] for vertex in vertices)
        return max((int(subtask["attempt"]) for found in subtasks for subtask in found), default=0)

    def counters(self, job_id: str, step: str = "") -> dict[str, int]:
        """Our counters, summed over subtasks and over the steps whose name holds `step`: `records_folded_total` etc."""
        sums: dict[str, int] = {}
        for vertex in self.get(f"/jobs/{job_id}")["vertices"]:
            if step not in vertex["name"]:
                continue
            path = f"/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics"
            ids = [entry["id"] for entry in self.get(path) if entry["id"].rpartition(".")[2] in COUNTERS]
            for start in range(0, len(ids), 20):
                asked = quote(",".join(ids[start : start + 20]))
                for entry in self.get(f"{path}?get={asked}&agg=sum"):
                    name = entry["id"].rpartition(".")[2]
                    sums[name] = sums.get(name, 0) + int(entry["sum"])
        return sums

    def _call(self, request: Request) -> Any:
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                message = f"{request.full_url}: {error.code} {error.read(400).decode(errors='replace')}"
            raise CommandFailed(message) from error
        except (URLError, OSError) as error:
            message = f"{self.url} does not answer ({error}); is the cluster up? see `reasoner stack status`"
            raise NoAnswer(message) from error
