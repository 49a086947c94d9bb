"""A person submits the job in the dashboard, in Chromium, and every record is once in tables on S3."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reasoner.clients.flink_jars import said, thin_jar
from reasoner.clients.flink_rest import FlinkRest
from reasoner.folders import tools
from reasoner.recordings.player import play
from reasoner.stack import RunningStack
from tests.services.job_runs import ClusterJob, topics_in
from tests.support.submitted import outcome, parts, prepared

pytestmark = [pytest.mark.deploy, pytest.mark.usefixtures("no_secrets")]

IN_BROWSER = Path(__file__).with_name("in_browser.py")
# Arguments that cannot work -> what the notice says: of Flink, and of the program. test_rest_submission.py has more.
WRONG = {
    "--config {file}": "Flink user code attempted to exit JVM",
    "-pym jobs.insights --config {folder}/wrong.yaml": "Python process exits with code: 2",
}


class Dashboard:
    """The dashboard of a cluster, as a person sees it. Screenshots go to docs/images where verdicts go to docs."""

    def __init__(self, url: str, folder: Path) -> None:
        python = tools() / "browser" / "bin" / "python"
        if not python.exists() or not Path("/usr/bin/chromium").exists():
            pytest.skip(f"no browser: {python} or /usr/bin/chromium is missing; run `reasoner/stack/setup.sh browser`")
        verdicts = os.environ.get("VERDICTS")
        self._images = Path(verdicts).parent / "images" if verdicts else folder
        self._images.mkdir(exist_ok=True)
        self._jar = folder / "metric-reasoner.jar"
        self._jar.write_bytes(thin_jar())
        self._python, self._url = python, url

    def submit(self, arguments: str, savepoint: str = "") -> dict[str, str]:
        """Fill the form of "Submit New Job", press Submit, and return the id of the job, or the error."""
        asked = {"url": self._url, "jar": str(self._jar), "images": str(self._images)}
        asked |= {"arguments": arguments, "savepoint": savepoint}
        command = [str(self._python), str(IN_BROWSER), json.dumps(asked)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert not done.returncode, done.stderr
        answer: dict[str, str] = json.loads(done.stdout)
        return answer


def test_dashboard_submission(session: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    job, file = prepared(session, "dashboard", tmp_path)
    rest, dashboard = FlinkRest(session.settings.flink_rest_url), Dashboard(session.settings.flink_rest_url, tmp_path)
    (tmp_path / "wrong.yaml").write_text(file.read_text().replace("parallelism: 2", "parallelism: many"))
    jobmanager, jobs = session.supervisor.record("flink-jobmanager"), rest.overview()

    verdict["wrong_arguments_say"] = says = {}
    for arguments, expected in WRONG.items():
        notice = dashboard.submit(arguments.format(file=file, folder=tmp_path))["error"]
        says[arguments] = next(line for line in notice.splitlines() if expected in line)
        assert rest.overview() == jobs
    assert session.supervisor.record("flink-jobmanager") == jobmanager, "the JobManager lives"
    words = said(rest.text("/jobmanager/log"))
    assert any("engine.parallelism" in line for line in words), "the page `Logs` of the JobManager has the reason"

    first, second = parts(2)
    job = submitted(job, dashboard, file, "")
    play(first, session.settings.kafka_bootstrap, topics_in(job.config))
    job.wait_until_read()
    savepoint = rest.stop(job.job_id, job.config.engine.checkpoint_dir, drain=False, deadline_s=120.0)
    assert savepoint.startswith("s3://flink/dashboard/savepoint-")
    job = submitted(job, dashboard, file, savepoint)
    play(second, session.settings.kafka_bootstrap, topics_in(job.config))
    job.wait_until_read()
    job.drain()

    verdict |= outcome(job, [*first, *second])
    verdict["pass"] = True


def submitted(job: ClusterJob, dashboard: Dashboard, file: Path, savepoint: str) -> ClusterJob:
    """Submit the job in the dashboard; return it when its page says that it runs, and it goes on from the savepoint."""
    answer = dashboard.submit(f'-pym jobs.insights --config "{file}"', savepoint)
    job_id = answer["job"]
    restored = job.rest.get(f"/jobs/{job_id}/checkpoints")["latest"]["restored"]
    assert (restored or {}).get("external_path", "") == savepoint
    return ClusterJob(job.config, job.rest, job.folder, job.job, job_id)
