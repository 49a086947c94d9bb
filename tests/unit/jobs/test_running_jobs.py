"""A second job of a name is refused by the job itself, however it is submitted."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from jobs.running_jobs import AlreadyRuns, refuse_second

JOBS = [
    {"jid": "a" * 32, "name": "insights", "state": "RESTARTING"},
    {"jid": "b" * 32, "name": "old", "state": "CANCELED"},
]


class Overview(BaseHTTPRequestHandler):
    """Flink's answer to /jobs/overview."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"jobs": JOBS} if self.path == "/jobs/overview" else {}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def flink() -> Iterator[dict[str, str]]:
    """Yield Flink's settings of a program that runs on a cluster with JOBS."""
    with HTTPServer(("127.0.0.1", 0), Overview) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield {"execution.target": "embedded", "rest.address": "127.0.0.1", "rest.port": str(server.server_port)}
        server.shutdown()


@pytest.mark.parametrize("target", ["embedded", "remote"])
def test_a_name_that_runs_is_refused(flink: dict[str, str], target: str) -> None:
    with pytest.raises(AlreadyRuns, match=r"insights is RESTARTING on this cluster already \(a{32}\)"):
        refuse_second("insights", flink | {"execution.target": target})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("old", {}),
        ("other", {}),
        ("insights", {"execution.target": "local"}),
        ("insights", {"$internal.pipeline.job-id": "a" * 32}),
        ("insights", {"rest.port": "1"}),
    ],
    ids=["ended", "other-name", "mini-cluster", "recovers-itself", "no-answer"],
)
def test_every_other_job_starts(flink: dict[str, str], name: str, change: dict[str, str]) -> None:
    refuse_second(name, flink | change)
