"""The commands of README's "On your own telemetry", as they stand there, against real components on other ports."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.components import FlinkCluster, PostgresUrls
from tests.support.readme import own_telemetry

pytestmark = pytest.mark.services


def test_the_commands_start_a_job_show_it_and_stop_it(
    kafka: str, postgres: PostgresUrls, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    database, cluster = (urlsplit(url).netloc for url in (postgres.jdbc.removeprefix("jdbc:"), flink_cluster.rest_url))
    start, stop, rest = own_telemetry(kafka, database, cluster).partition("reasoner stop")
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
    assert run(stop + rest).strip().split("/")[-1].startswith("savepoint-")
    assert (tmp_path / "state" / "metric-reasoner" / "insights.jsonl").exists(), "the journal has it"
