"""The commands of README's "On your own telemetry", as they stand there, against real components on other ports."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reasoner.clients.flink_rest import FlinkRest
from tests.support.components import FlinkCluster, PostgresUrls
from tests.support.readme import command_blocks

pytestmark = pytest.mark.services

# Lines that set up what the fixtures of the tests have started, and one that does not end.
LEFT_OUT = ("make setup", "export PATH", "reasoner stack up", "reasoner insights tail")


def commands() -> str:
    """Return the shell commands of the section, without LEFT_OUT."""
    return "\n".join(line for line in "".join(command_blocks()).splitlines() if not line.startswith(LEFT_OUT))


def test_the_commands_start_a_job_show_it_and_stop_it(
    kafka: str, postgres: PostgresUrls, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    rest = FlinkRest(flink_cluster.rest_url)
    script = (
        commands()
        .replace("127.0.0.1:5433", urlsplit(postgres.jdbc.removeprefix("jdbc:")).netloc)
        .replace("http://127.0.0.1:8081", rest.url)
        .replace("lake:\n", f"kafka: {{bootstrap_servers: '{kafka}'}}\nlake:\n")
    )
    start, stop = script[: script.index("reasoner stop")], script[script.index("reasoner stop") :]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_STATE_HOME": str(tmp_path / "state")}

    def run(text: str) -> str:
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    started = run(start)
    assert "insight_out: created" in started
    assert "latency_rollups: created" in started
    assert "RUNNING" in started, "jobs lists the job that submit started"
    assert run(stop).strip().split("/")[-1].startswith("savepoint-")
    assert (tmp_path / "state" / "metric-reasoner" / "insights.jsonl").exists(), "the journal has it"
