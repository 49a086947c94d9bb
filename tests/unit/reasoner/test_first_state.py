"""A job that Flink took and that fails as it starts is a failure of its submission, with Flink's innermost reason."""

from typing import Any

import pytest

from reasoner.clients.flink_errors import causes
from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed
from reasoner.runs.first_state import refuse_failed_start

TRACE = """org.apache.flink.runtime.client.JobInitializationException: Could not start the JobMaster.
\tat org.apache.flink.runtime.jobmaster.DefaultJobMasterServiceProcess.lambda$new$0(X.java:98)
Caused by: java.util.concurrent.CompletionException: java.lang.RuntimeException: java.io.FileNotFoundException
\t... 3 more
Caused by: java.io.FileNotFoundException: Cannot find checkpoint or savepoint file '/no'.
\tat org.apache.flink.runtime.state.filesystem.AbstractFsCheckpointStorageAccess.resolve(Y.java:275)
"""


class Cluster(FlinkRest):
    """A cluster on which the job has these states, one at each question."""

    def __init__(self, *states: str) -> None:
        super().__init__("http://flink:8081")
        object.__setattr__(self, "left", list(states))

    def get(self, path: str) -> Any:
        if path == "/jobs":
            return {"jobs": [{"id": "a", "status": vars(self)["left"].pop(0)}]}
        return {"exceptionHistory": {"entries": [{"stacktrace": TRACE}]}}


def test_a_job_that_fails_after_it_was_taken_is_a_failure_with_the_next_step() -> None:
    with pytest.raises(CommandFailed, match=r"failed as it started: .*Cannot find checkpoint.*; check the path"):
        refuse_failed_start(Cluster("INITIALIZING", "FAILED"), "a")


def test_a_job_that_runs_is_none() -> None:
    refuse_failed_start(Cluster("INITIALIZING", "CREATED", "RUNNING"), "a")


def test_causes_are_those_of_the_trace_or_the_last_lines_that_are_no_frame() -> None:
    assert [cause.partition(":")[0] for cause in causes(TRACE)] == ["CompletionException", "FileNotFoundException"]
    assert causes("reading\nno such job\n\tat x.Y.z(Y.java:1)\n") == ["reading", "no such job"]
    assert causes("") == ["no reason is known"]
    of_python = "java.A: Traceback (most recent call last):\n  File 'f'\n    g()\nKeyError: 'k'\n\n\tat b.C(D.java)"
    assert causes(of_python) == ["KeyError: 'k'"], "Flink quotes the worker's error"
    of_java = f"Traceback (most recent call last):\n  File 'f'\npy4j.Py4JJavaError: calling o35.execute\n{TRACE}"
    assert causes(of_java)[-1].startswith("FileNotFoundException"), "Python quotes Java's"
    ended = (
        "ProgramAbortException\n\tat a.B\nCaused by: java.lang.RuntimeException: Python process exits with code: 1\n"
    )
    assert causes(f"{of_java}\n{ended}")[-1].startswith("FileNotFoundException"), "not that the program has ended"
    assert causes(f"job night runs already\n{ended}") == ["job night runs already"], "what the program says"
