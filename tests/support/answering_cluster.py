"""A Flink cluster whose answers are given, and some of its jobs."""

from typing import Any, Final

from reasoner.clients.flink_rest import FlinkRest

JOB: Final = {"jid": "a" * 32, "name": "insights", "state": "RESTARTING", "start-time": 5, "end-time": -1}
OLD: Final = {"jid": "b" * 32, "name": "insights", "state": "CANCELED", "start-time": 3, "end-time": 4}
OTHER: Final = {"jid": "c" * 32, "name": "other", "state": "RUNNING", "start-time": 7, "end-time": -1}


class Cluster(FlinkRest):
    """A cluster whose answers are given, in the form of Flink 2.2's. checkpoints: by job id."""

    def __init__(
        self,
        *jobs: dict[str, Any],
        slots: int = 4,
        all_slots: int = 4,
        version: str = "2.2.1",
        config: dict[str, str] | None = None,
        checkpoints: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__("http://flink:8081")
        answers: dict[str, Any] = {
            "/jobs/overview": {"jobs": list(jobs)},
            "/overview": {"slots-available": slots, "slots-total": all_slots, "flink-version": version},
            "/jobmanager/config": [{"key": key, "value": value} for key, value in (config or {}).items()],
        }
        nothing = {"completed": None, "savepoint": None, "restored": None, "failed": None}
        for job_id, latest in (checkpoints or {}).items():
            answers[f"/jobs/{job_id}/checkpoints"] = {"latest": nothing | latest}
        object.__setattr__(self, "get", answers.__getitem__)


def points(**ids: int) -> dict[str, dict[str, Any]]:
    """Return the newest points of a job by kind, as Flink names them."""
    return {kind: {"id": number, "external_path": f"file:///c/{number}"} for kind, number in ids.items()}
