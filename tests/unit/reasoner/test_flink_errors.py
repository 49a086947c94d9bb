"""Reasons in the stack traces of Flink, and the next step."""

from reasoner.clients.flink_errors import causes, why

TRACE = """org.apache.flink.runtime.client.JobInitializationException: Could not start the JobMaster.
\tat org.apache.flink.runtime.jobmaster.DefaultJobMasterServiceProcess.lambda$new$0(X.java:98)
Caused by: java.util.concurrent.CompletionException: java.lang.RuntimeException: java.io.FileNotFoundException
\t... 3 more
Caused by: java.io.FileNotFoundException: Cannot find checkpoint or savepoint file '/no'.
\tat org.apache.flink.runtime.state.filesystem.AbstractFsCheckpointStorageAccess.resolve(Y.java:275)
"""


def test_why_is_the_innermost_cause_with_the_next_step_where_one_is_known() -> None:
    assert why(TRACE) == (
        "FileNotFoundException: Cannot find checkpoint or savepoint file '/no'.; "
        "check the path; `--savepoint latest` is where the last run ended"
    )
    assert why("KeyError: 'k'") == "KeyError: 'k'"
    long = why(f"Caused by: java.lang.IllegalStateException: {'x' * 999}")
    assert len(long) < 400
    assert long.endswith("x…"), "what is cut is marked"


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
