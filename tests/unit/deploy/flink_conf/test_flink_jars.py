"""The jar for dashboard and REST, the corrected page, and what is said where a program fails."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from reasoner.clients.flink_jars import ENTRY_CLASS, run_program, said, thin_jar
from reasoner.clients.flink_rest import FlinkRest, Refused
from reasoner.errors import CommandFailed
from reasoner.runs.way import usual_way
from reasoner.stack.dashboard_page import JAR, write

LOG = """\
2026-11-30 21:00:00,000 INFO  o.a.f.c.p.PythonDriver - ----------- Python Process Started -----------
2026-11-30 21:00:01,000 INFO  o.a.f.c.p.PythonDriver - an older program
2026-11-30 21:00:02,000 INFO  o.a.f.c.p.PythonDriver - ----------- Python Process Exited -----------
2026-11-30 21:01:00,000 INFO  o.a.f.c.p.PythonDriver - ----------- Python Process Started -----------
found 1 - expected 2
2026-11-30 21:01:01,000 INFO  o.a.f.c.p.PythonDriver - found 1 - expected 2
2026-11-30 21:01:01,500 INFO  o.a.f.r.r.ResourceManager - another line of the JobManager
2026-11-30 21:01:02,000 INFO  org.apache.flink.client.python.PythonDriver [] - the next step
2026-11-30 21:01:03,000 INFO  o.a.f.c.p.PythonDriver - ----------- Python Process Exited -----------
"""


def test_the_jar_names_flinks_class_and_is_the_same_each_time(tmp_path: Path) -> None:
    assert thin_jar() == thin_jar()
    file = tmp_path / "thin.jar"
    file.write_bytes(thin_jar())
    with ZipFile(file) as jar:
        assert jar.namelist() == ["META-INF/MANIFEST.MF"]
        assert f"Main-Class: {ENTRY_CLASS}\r\n" in jar.read("META-INF/MANIFEST.MF").decode()


def test_the_words_of_the_last_program_are_found_in_the_log() -> None:
    assert said(LOG) == ["found 1 - expected 2", "the next step"]
    assert said("a log without a program") == []


class Cluster(FlinkRest):
    """A cluster that answers `run` with a job or with an error of Flink, and refuses to delete the jar."""

    def __init__(self, error: str = "") -> None:
        super().__init__("http://flink:8081")
        object.__setattr__(self, "error", error)

    def send(self, path: str, body: bytes, content_type: str) -> Any:
        return {"filename": "/tmp/upload/a.jar"}

    def waiting(self, timeout_s: float) -> FlinkRest:
        return self

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        error: str = vars(self)["error"]
        if error:
            raise Refused(error[:400], error)
        return {"jobid": "a" * 32}

    def delete(self, path: str) -> None:
        message = "500"
        raise Refused(message, message)


def test_a_jar_that_cannot_be_deleted_changes_nothing() -> None:
    assert run_program(Cluster(), [], "") == "a" * 32
    with pytest.raises(CommandFailed, match="did not take the job: Wrong: no such savepoint"):
        run_program(
            Cluster(json.dumps({"errors": ["x.Failed: a\n\tat b\nCaused by: y.Wrong: no such savepoint"]})), [], ""
        )


@pytest.mark.parametrize("end", [None, -9], ids=["whole", "cut"])
def test_the_innermost_cause_is_found_in_an_answer_of_any_length(end: int | None) -> None:
    trace = "x.Failed: a\n" + "\tat a.long.frame\n" * 5_000 + "Caused by: y.Wrong: max parallelism\n\tat b.c.d.e"
    with pytest.raises(CommandFailed, match=r"did not take the job: Wrong: max parallelism$"):
        run_program(Cluster(json.dumps({"errors": ["Internal server error.", trace]})[:end]), [], "")


def test_without_flink_on_this_machine_a_job_goes_by_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REASONER_TOOLS", str(tmp_path))
    assert usual_way() == "rest"


def flink_with(folder: Path, script: str) -> Path:
    """Make a FLINK_HOME whose dashboard has this script."""
    (folder / "lib").mkdir()
    with ZipFile(folder / "lib" / "flink-dist-2.2.1.jar", "w") as jar:
        jar.writestr("web/", b"")
        jar.writestr("web/index.html", b"<html>")
        jar.writestr("web/4018.js", script)
        jar.writestr("org/apache/flink/A.class", b"programArgs:a,")
    return folder


def test_the_page_sends_the_arguments_as_a_list_beside_all_other_files(tmp_path: Path) -> None:
    """Flink serves only files of the jar in which it finds the folder `web`."""
    with ZipFile(write(flink_with(tmp_path, "h={entryClass:i,programArgs:a,savepointPath:c}"))) as jar:
        assert jar.namelist() == ["web/", "web/index.html", "web/4018.js"]
        script = jar.read("web/4018.js").decode()
    assert "programArgsList:a?a.match(" in script
    assert "programArgs:" not in script


def test_a_folder_without_flink_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"has 0 files flink-dist-\*\.jar, expected 1: give a FLINK_HOME"):
        write(tmp_path)


def test_an_interrupted_command_leaves_the_dashboard_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flink = flink_with(tmp_path, "h={programArgs:a,b}")
    before = write(flink).read_bytes()

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ZipFile, "writestr", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(flink)
    assert (flink / "lib" / JAR).read_bytes() == before
    assert [path.name for path in (flink / "lib").glob("*.jar") if path.name != JAR] == ["flink-dist-2.2.1.jar"]


def test_the_page_of_another_flink_is_not_touched(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"in 0 places of its dashboard, expected 1"):
        write(flink_with(tmp_path, "h={programArgsList:l}"))
    assert [path.name for path in (tmp_path / "lib").iterdir()] == ["flink-dist-2.2.1.jar"]
