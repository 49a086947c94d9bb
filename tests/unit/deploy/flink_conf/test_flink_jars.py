"""The jar for dashboard and REST, the corrected page, and what is said where a program fails."""

from pathlib import Path
from zipfile import ZipFile

import pytest

from reasoner.clients.flink_jars import ENTRY_CLASS, said, thin_jar
from reasoner.errors import CommandFailed
from reasoner.runs.submit import usual_way
from reasoner.stack.dashboard_page import write

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


def test_the_page_of_another_flink_is_not_touched(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"in 0 places of its dashboard, expected 1"):
        write(flink_with(tmp_path, "h={programArgsList:l}"))
    assert [path.name for path in (tmp_path / "lib").iterdir()] == ["flink-dist-2.2.1.jar"]
