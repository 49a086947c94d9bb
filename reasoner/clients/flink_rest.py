"""Client of Flink's REST API, as far as the command line and the tests need it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, get_args
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from jobs.running_jobs import ENDED
from reasoner.clients.flink_errors import causes
from reasoner.errors import CommandFailed, WrongUse, reason_of
from reasoner.waiting import wait_until
from state_schemas.contracts.counters import MetricName
from state_schemas.telemetry.signals import SIGNALS

COUNTERS: Final = frozenset(get_args(MetricName))
_ERROR_BYTES_MAX: Final = 1_000_000  # a stack trace with the traces of its causes; the last one is the reason
_ERROR_CHARS_MAX: Final = 400  # of it in a message
_SOURCE: Final = "Source: "
_METRICS_AT_ONCE: Final = 20  # of a request: their names are in its address
_RENEWED_DEADLINE_S: Final = 15.0  # `metrics.fetcher.update-interval`, 10 s, and the time of its answer


class JobInfo(NamedTuple):
    """A job of a cluster. state: Flink's, such as RUNNING. start_ms, end_ms: epoch ms, -1 before its end."""

    job_id: str
    name: str
    state: str
    start_ms: int
    end_ms: int

    @property
    def is_active(self) -> bool:
        """Return whether the job runs, or will run again without anyone's doing."""
        return self.state not in ENDED


class _Source(NamedTuple):
    """Numbers of a source: ms without a message, and its newest offset; -1 where it has read none."""

    idle_ms: int
    offset_max: int


class Refused(CommandFailed):
    """An answer of Flink that is no success. said: its text, often a stack trace."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


class NoAnswer(CommandFailed):
    """No answer from the address: the cluster is not up, has just ended, or takes too long."""


@dataclass(frozen=True, slots=True)
class FlinkRest:
    """A client of a JobManager or a mini-cluster.

    Proxies of the environment are used, except for loopback addresses.
    """

    # Address of the REST API, such as http://127.0.0.1:8081.
    url: str
    # Seconds to wait for the answer to one request.
    timeout_s: float = 10.0

    def get(self, path: str) -> Any:
        """Return the JSON at a path. Raises CommandFailed with Flink's own message."""
        return self._call(Request(f"{self.url}{path}"))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post `body` as JSON and return the JSON of the answer. Raises CommandFailed with Flink's own message."""
        data = json.dumps(body).encode()
        return self._call(Request(f"{self.url}{path}", data, {"Content-Type": "application/json"}))

    def send(self, path: str, body: bytes, content_type: str) -> Any:
        """Post bytes and return the JSON of the answer. Raises CommandFailed with Flink's own message."""
        return self._call(Request(f"{self.url}{path}", body, {"Content-Type": content_type}))

    def delete(self, path: str) -> None:
        """Delete what is at a path. Raises CommandFailed with Flink's own message."""
        self._call(Request(f"{self.url}{path}", method="DELETE"))

    def text(self, path: str) -> str:
        """Return the text at a path, such as a log; "" where there is none."""
        try:
            with _opener(self.url).open(f"{self.url}{path}", timeout=self.timeout_s) as answer:
                return str(answer.read().decode(errors="replace"))
        except OSError:
            return ""

    def waiting(self, timeout_s: float) -> "FlinkRest":
        """Return a client of the same address that waits longer for an answer."""
        return replace(self, timeout_s=timeout_s)

    @classmethod
    def at(cls, target: str) -> "FlinkRest":
        """Return a client of an address that a person gives: with or without `http://`. Raises WrongUse."""
        scheme, slashes, place = (target if "//" in target else f"http://{target}").rstrip("/").partition("//")
        host, slash, path = place.partition("/")
        # One spelling of a cluster, because the journal keeps starts and savepoints by it.
        name, colon, port = host.lower().rpartition(":")
        url = f"{scheme}{slashes}{'127.0.0.1' if name == 'localhost' else name}{colon}{port}{slash}{path}"
        if not _is_address(url):
            message = f"--target is {target!r}, expected the REST address of Flink, such as http://127.0.0.1:8081"
            raise WrongUse(message)
        return cls(url)

    def overview(self) -> list[JobInfo]:
        """Return the jobs of the cluster, the newest first; those that have ended as well."""
        answer = self.get("/jobs/overview")
        try:
            jobs = answer["jobs"]
            found = [JobInfo(job["jid"], job["name"], job["state"], job["start-time"], job["end-time"]) for job in jobs]
        except (KeyError, TypeError) as error:
            raise _not_flink(self.url, "JSON of another program") from error
        return sorted(found, key=lambda job: (-job.start_ms, job.job_id))

    def free_slots(self) -> int:
        return int(self.get("/overview")["slots-available"])

    def all_slots(self) -> int:
        """Return the slots of the TaskManagers that there are; 0 where the cluster starts them on demand."""
        return int(self.get("/overview")["slots-total"])

    def version(self) -> str:
        """Return the version of Flink, such as 2.2.1."""
        return str(self.get("/overview")["flink-version"])

    def setting(self, name: str) -> str:
        """Return a setting of the JobManager, "" where it is not set."""
        return self.settings().get(name, "")

    def settings(self) -> dict[str, str]:
        """Return the settings of the JobManager that are set; secrets are masked."""
        return {entry["key"]: str(entry["value"]) for entry in self.get("/jobmanager/config")}

    def is_application(self) -> bool:
        """Return whether the cluster runs one application, which came with it, and takes no other job."""
        return self.setting("execution.target").endswith(("embedded", "application"))

    def jobs(self) -> dict[str, str]:
        """Return the state of each job by its id."""
        return {job["id"]: job["status"] for job in self.get("/jobs")["jobs"]}

    def stop(self, job_id: str, folder: str, *, drain: bool, deadline_s: float) -> str:
        """Stop the job with a savepoint in `folder` ("": that of the job or cluster), and return its path.

        drain: event time ends first, so that all windows become final.
        """
        asked = self.post(f"/jobs/{job_id}/stop", {"drain": drain, "targetDirectory": folder or None})
        return self._saved(job_id, asked["request-id"], deadline_s)

    def savepoint(self, job_id: str, folder: str, *, deadline_s: float) -> str:
        """Write a savepoint into `folder` and return its path; the job continues."""
        asked = self.post(f"/jobs/{job_id}/savepoints", {"cancel-job": False, "target-directory": folder or None})
        return self._saved(job_id, asked["request-id"], deadline_s)

    def _saved(self, job_id: str, request_id: str, deadline_s: float) -> str:
        def outcome() -> Any:
            answer = self.get(f"/jobs/{job_id}/savepoints/{request_id}")
            return answer["operation"] if answer["status"]["id"] == "COMPLETED" else None

        operation = wait_until(outcome, f"job {job_id} has a savepoint; see {self.url}/jobs/{job_id}", deadline_s)
        if "failure-cause" in operation:
            failure = operation["failure-cause"]
            reason = causes(failure.get("stack-trace") or failure["class"])[-1]
            message = f"savepoint of {job_id} failed: {reason}; see the JobManager's log"
            raise CommandFailed(message)
        return str(operation["location"])

    def all_tasks_run(self, job_id: str) -> bool:
        """Return whether each task of the job runs. Before, Flink refuses a savepoint, and a stop restarts the job."""
        vertices = self.get(f"/jobs/{job_id}")["vertices"]
        # A job that is still reading its savepoint has no vertices.
        return bool(vertices) and all(vertex["status"] == "RUNNING" for vertex in vertices)

    def last_checkpoint(self, job_id: str) -> int | None:
        """Return the number of the newest checkpoint or savepoint of a job that is complete, or was restored.

        None where there is neither.
        """
        latest = self.get(f"/jobs/{job_id}/checkpoints")["latest"]
        kinds = ("completed", "savepoint", "restored")
        return max((int(latest[kind]["id"]) for kind in kinds if latest[kind]), default=None)

    def last_point(self, job_id: str) -> str:
        """Return the path of the newest checkpoint or savepoint of a job, else of the one from which it began.

        "" where there is none, or where it was kept in the heap of the JobManager.
        """
        latest = self.get(f"/jobs/{job_id}/checkpoints")["latest"]
        found = [latest[kind] for kind in ("completed", "savepoint", "restored") if latest[kind]]
        path = str(max(found, key=lambda point: int(point["id"]))["external_path"] or "") if found else ""
        return "" if path.startswith("<") else path  # "<checkpoint-not-externally-addressable>"

    def completed_checkpoints(self, job_id: str) -> int:
        """Return how many checkpoints and savepoints this job has completed; a checkpoint commits what was written."""
        return int(self.get(f"/jobs/{job_id}/checkpoints")["counts"]["completed"])

    def used_slots(self, job_id: str) -> int:
        """Return the slots that the job needs: its steps share them, so as many as the widest step has subtasks."""
        return max((int(vertex["parallelism"]) for vertex in self.get(f"/jobs/{job_id}")["vertices"]), default=0)

    def max_parallelism(self, job_id: str) -> int:
        """Return the number of key groups of the job's state."""
        return max((int(vertex["maxParallelism"]) for vertex in self.get(f"/jobs/{job_id}")["vertices"]), default=0)

    def failure(self, job_id: str) -> str:
        """Return the stack trace with which the job has failed last; "" where it has not failed."""
        history = self.get(f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        return str(history[0]["stacktrace"]) if history else ""

    def cancel(self, job_id: str, *, deadline_s: float) -> None:
        """Cancel the job without a savepoint and wait until it has ended. Raises CommandFailed."""
        self._call(Request(f"{self.url}/jobs/{job_id}?mode=cancel", method="PATCH"))
        what = f"job {job_id} has ended; see {self.url}/#/job/{job_id}"
        wait_until(lambda: self.jobs().get(job_id, "CANCELED") in ENDED, what, deadline_s)

    def restarts(self, job_id: str) -> int:
        """Return the largest number of restarts of a subtask.

        The number is from the execution graph, not from the metric numRestarts: when a TaskManager has just died, a
        JobManager that waits for its metrics shows old values for minutes (`web.timeout`).
        """
        vertices = self.get(f"/jobs/{job_id}")["vertices"]
        subtasks = (self.get(f"/jobs/{job_id}/vertices/{vertex['id']}")["subtasks"] for vertex in vertices)
        return max((int(subtask["attempt"]) for found in subtasks for subtask in found), default=0)

    def counters(self, job_id: str, step: str = "") -> dict[str, int]:
        """Return this project's counters, such as `records_folded_total`, summed over subtasks.

        step: only steps whose name contains this text.
        """
        sums = Counter[str]()
        for vertex in self.get(f"/jobs/{job_id}")["vertices"]:
            if step not in vertex["name"]:
                continue
            path = f"/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics"
            ids = [entry["id"] for entry in self.get(path) if entry["id"].rpartition(".")[2] in COUNTERS]
            for entry in self._metrics(path, ids):
                sums[entry["id"].rpartition(".")[2]] += int(entry["sum"])
        return sums

    def idle_ms_of_sources(self, job_id: str) -> dict[str, int]:
        """Return by source, such as `traces`, for how many ms all its subtasks have read nothing.

        Sources that have never read a message are left out. Flink renews a number only when it is asked for and
        `metrics.fetcher.update-interval` (10 s) has passed, so this waits for it.
        """
        before = self._sources(job_id)
        with suppress(CommandFailed):  # back pressure: a source that neither reads nor is idle
            wait_until(
                lambda: all(numbers != before.get(name) for name, numbers in self._sources(job_id).items()),
                "Flink renews the numbers of the sources",
                _RENEWED_DEADLINE_S,
            )
        now = self._sources(job_id)
        return {name: numbers.idle_ms for name, numbers in now.items() if numbers.offset_max >= 0}

    def _sources(self, job_id: str) -> dict[str, _Source]:
        found = {}
        for vertex in self.get(f"/jobs/{job_id}")["vertices"]:
            name = vertex["name"].removeprefix(_SOURCE).partition("_source")[0]
            if vertex["name"].startswith(_SOURCE) and name in SIGNALS:  # rules are idle most of the time
                found[name] = self._source(job_id, vertex["id"])
        return found

    def _source(self, job_id: str, vertex_id: str) -> _Source:
        path = f"/jobs/{job_id}/vertices/{vertex_id}/subtasks/metrics"
        ids = [entry["id"] for entry in self.get(path)]
        idle = self._metrics(path, [name for name in ids if name.endswith(".sourceIdleTime")])
        offsets = self._metrics(path, [name for name in ids if name.endswith((".currentOffset", ".committedOffset"))])
        return _Source(
            idle_ms=min((int(entry["min"]) for entry in idle), default=0),
            offset_max=max((int(entry["max"]) for entry in offsets), default=-1),
        )

    def _metrics(self, path: str, ids: Sequence[str]) -> Iterator[Any]:
        """Yield the metrics with these ids over the subtasks of a vertex, each with `min`, `max` and `sum`."""
        for start in range(0, len(ids), _METRICS_AT_ONCE):
            yield from self.get(f"{path}?get={quote(','.join(ids[start : start + _METRICS_AT_ONCE]))}")

    def _call(self, request: Request) -> Any:
        try:
            with _opener(self.url).open(request, timeout=self.timeout_s) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                said = error.read(_ERROR_BYTES_MAX).decode(errors="replace")
            if said.lstrip().startswith("<"):  # a page for people
                raise _not_flink(self.url, f"{error.code} with a web page") from error
            message = f"{request.full_url}: {error.code} {said[:_ERROR_CHARS_MAX]}"
            raise Refused(message, said) from error
        except (ValueError, HTTPException) as error:
            raise _not_flink(self.url, "no JSON") from error
        except OSError as error:
            inner = error.reason if isinstance(error, URLError) else error
            reason = reason_of(inner) if isinstance(inner, OSError) else inner
            message = f"{self.url} does not answer ({reason}); is the cluster up? see `reasoner stack status`"
            raise NoAnswer(message) from error


def _not_flink(url: str, found: str) -> CommandFailed:
    message = f"{url} is not Flink's REST API (found {found}): expected the address of the JobManager's dashboard"
    return CommandFailed(message)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in url
    except ValueError:
        return False


def _opener(url: str) -> OpenerDirector:
    host = urlsplit(url).hostname or ""
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    return build_opener(ProxyHandler({})) if is_loopback else build_opener()
