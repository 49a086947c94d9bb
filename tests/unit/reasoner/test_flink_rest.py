"""Client of Flink's REST API when no server answers, and when Flink returns an error."""

from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from reasoner.clients.flink_rest import FlinkRest, NoAnswer, Refused
from reasoner.errors import CommandFailed
from reasoner.stack.settings import free_ports


class Refusing(BaseHTTPRequestHandler):
    """Server that answers every POST with 404 and a reason, as Flink does for an unknown job."""

    reason: ClassVar[bytes] = b"no such job"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(404)
        self.end_headers()
        self.wfile.write(self.reason)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_address_without_a_server_is_no_answer_with_the_next_step() -> None:
    (port,) = free_ports(1)
    with pytest.raises(NoAnswer, match=f"http://127.0.0.1:{port} does not answer .*reasoner stack status"):
        FlinkRest(f"http://127.0.0.1:{port}").jobs()


def test_the_local_host_is_never_requested_through_a_proxy(refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(CommandFailed, match="501"):  # answer of the server, which does not support GET
        FlinkRest(refusing).jobs()
    with pytest.raises(NoAnswer, match="Connection refused"):
        FlinkRest("http://jobmanager.example").jobs()


def test_a_long_answer_is_kept_whole(refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refusing, "reason", b"frame\n" * 20_000 + b"the cause")
    with pytest.raises(Refused) as refused:
        FlinkRest(refusing).post("/jars/a/run", {})
    assert refused.value.said.endswith("the cause")
    assert len(str(refused.value)) < 500


def test_an_error_of_flink_is_an_answer(refusing: str, tmp_path: Path) -> None:
    """Code that ignores a cluster that has just ended must not ignore one that refuses the request."""
    with pytest.raises(CommandFailed, match="404 no such job") as error:
        FlinkRest(refusing).stop("x", f"file://{tmp_path}", drain=True, deadline_s=1)
    assert not isinstance(error.value, NoAnswer)


class Reading(FlinkRest):
    """A cluster whose job has two sources; its numbers are renewed at the third question for each."""

    idle_ms: ClassVar = {"traces": 40_000, "metrics": 90_000}
    offset: ClassVar = {"traces": 7, "metrics": -1}

    def __init__(self) -> None:
        super().__init__("http://flink:8081")
        object.__setattr__(self, "asked", Counter())

    def get(self, path: str) -> Any:
        if path == "/jobs/a":
            sources = [{"id": name, "name": f"Source: {name}_source[1] -> Calc[2]"} for name in self.idle_ms]
            return {"vertices": [*sources, {"id": "x", "name": "latency-spike"}]}
        vertex, _, asked = path.removeprefix("/jobs/a/vertices/").partition("/subtasks/metrics")
        names = ["S.sourceIdleTime", "S.topic.t.partition.0.currentOffset", "S.topic.t.partition.0.committedOffset"]
        if not asked:
            return [{"id": name} for name in (*names, "Calc.numRecordsIn")]
        vars(self)["asked"][path] += 1
        old = 0 if vars(self)["asked"][path] >= 3 else 39_000
        if "IdleTime" in asked:  # two subtasks: the other one has waited longer
            return [{"id": names[0], "min": self.idle_ms[vertex] - old, "max": 99_000, "sum": 0}]
        return [{"id": name, "min": -1, "max": self.offset[vertex], "sum": 0} for name in names[1:]]


def test_the_idle_time_of_sources_that_have_read_is_the_renewed_one_of_the_subtask_that_read_last() -> None:
    assert Reading().idle_ms_of_sources("a") == {"traces": 40_000}
