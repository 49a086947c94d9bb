"""Submission of a Python program by Flink's REST API alone: a jar that names PythonDriver, and the program's arguments.

The program runs in a process beside the JobManager, so its image needs this package. The same jar is what a person
uploads in the dashboard.
"""

import io
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import quote
from zipfile import ZipFile, ZipInfo

from reasoner.clients.flink_errors import why
from reasoner.clients.flink_rest import FlinkRest, Refused
from reasoner.errors import CommandFailed
from state_schemas.contracts.settings import NOTHING_DONE

ENTRY_CLASS: Final = "org.apache.flink.client.python.PythonDriver"
RUN_DEADLINE_S: Final = 180.0  # the program is started, reads its settings and translates its graph
_MANIFEST: Final = f"Manifest-Version: 1.0\r\nMain-Class: {ENTRY_CLASS}\r\n\r\n"
_STARTED: Final = "Python Process Started"
_EXITED: Final = "Python Process Exited"


def thin_jar() -> bytes:
    """Return the jar: a manifest and no class, because Flink has the class. The same bytes each time."""
    file = io.BytesIO()
    with ZipFile(file, "w") as jar:
        jar.writestr(ZipInfo("META-INF/MANIFEST.MF", date_time=(1980, 1, 1, 0, 0, 0)), _MANIFEST)
    return file.getvalue()


def run_program(rest: FlinkRest, arguments: Sequence[str], savepoint: str) -> str:
    """Run a program in the JobManager and return the id of its job. savepoint: where the job goes on, or "".

    Raises CommandFailed with what the program said last, or why the job could not go on. NoAnswer: the program may run
    and start its job later.
    """
    jar = _uploaded(rest)
    body = {"entryClass": ENTRY_CLASS, "programArgsList": list(arguments), "savepointPath": savepoint or None}
    try:
        return str(rest.waiting(RUN_DEADLINE_S).post(f"/jars/{jar}/run", body)["jobid"])
    except Refused as failure:
        message = f"the cluster at {rest.url} did not take the job: {_reason(rest, failure.said)}"
        raise CommandFailed(message) from failure
    finally:
        with suppress(CommandFailed):  # a jar that stays is no reason to call a job that runs a failure
            rest.delete(f"/jars/{jar}")


def _uploaded(rest: FlinkRest) -> str:
    """Upload the jar and return its id in the cluster."""
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="jarfile"; filename="metric-reasoner.jar"\r\n'
        "Content-Type: application/x-java-archive\r\n\r\n"
    )
    body = head.encode() + thin_jar() + f"\r\n--{boundary}--\r\n".encode()
    name: str = rest.send("/jars/upload", body, f"multipart/form-data; boundary={boundary}")["filename"]
    return quote(name.rpartition("/")[2])


def _reason(rest: FlinkRest, failure: str) -> str:
    """Return why the program failed: its own words where the answer has only its exit code."""
    try:
        trace = "\n".join(json.loads(failure)["errors"])
    except (ValueError, KeyError, TypeError):  # the client keeps the beginning of a very long answer
        trace = failure.replace("\\n", "\n")
    if "Python process exits with code" not in trace:
        return why(trace)
    words = said(rest.text("/jobmanager/log"))
    if not words:
        return f"the program has failed, and its output is in the JobManager's log ({rest.url}/#/job-manager/logs)"
    faults = next((number for number, line in enumerate(words) if NOTHING_DONE in line), None)
    return why("\n".join(words)) if faults is None else "\n".join(words[faults:])


def said(log: str) -> list[str]:
    """Return the output of the Python program that ended last, from the log of a JobManager."""
    program = log.rpartition(_EXITED)[0].rpartition(_STARTED)[2]
    lines = (line.partition(" - ") for line in program.splitlines())
    return [words for logger, _, words in lines if "PythonDriver" in logger][:-1]
