"""Wrong situations of use: commands, settings, files and terminals."""

import gzip
import json
from typing import Final

from tests.situations.makers import (
    LINE,
    file,
    lake,
    long_recording,
    settings,
    settings_file,
    without_modules,
    without_tools,
)
from tests.situations.situation import INTERRUPTED, Situation

_TOPICS: Final = "reasoner topics create --config job.yaml"
_TAB: Final = b"lake:\n\turi: jdbc:sqlite:c.db\n"
_TEXT: Final = b"2026-06-11 09:14:22 ERROR the oven is cold\n"
_JAEGER: Final = json.dumps([{"traceID": "1", "operationName": "GET", "spans": []}]).encode()
_MANY: Final = file("logs.jsonl", LINE * 5_000)

# Commands that cannot work as they were typed.
TYPED: Final = (
    Situation("a command that does not exist", "reasoner submitt", ("did you mean submit?",), 2, quick=True),
    Situation("an option that does not exist", "reasoner jobs --targt x", ("--targt", "--target"), 2),
    Situation("an option is missing", "reasoner topics create", ("Missing option '--config'",), 2),
    Situation(
        "a job that does not exist",
        "reasoner submit latency --config job.yaml",
        ("unknown job 'latency'", "did you mean latency-spikes?"),
        2,
    ),
    Situation("a component that does not exist", "reasoner stack up kafcka", ("did you mean kafka?",), 2, quick=True),
    Situation(
        "a port that is no number", "reasoner stack up kafka --kafka-port abc", ("'abc'", "expected a whole number"), 2
    ),
    Situation(
        "a kind of insight that does not exist",
        "reasoner insights list --kind latency_spikes",
        ("--kind is 'latency_spikes'; did you mean latency_spike?",),
        2,
        quick=True,
    ),
    Situation("a time span without a unit", "reasoner insights list --since 30", ("'30'", "such as 30m"), 2),
    Situation(
        "a savepoint and the beginning of the topics",
        "reasoner submit --config job.yaml --savepoint latest --from-start --target 127.0.0.1:$CLOSED",
        ("--savepoint and --from-start", "expected one of them"),
        2,
    ),
    Situation(
        "the extra `job` is not installed",
        "$BIN/reasoner submit --config job.yaml",
        ("needs the extra `job`", "run `make setup` in"),
        2,
        without_modules("pyflink"),
        quick=True,
    ),
    Situation(
        "no JDK, or no `make setup`",
        "reasoner stack up kafka",
        ("is missing or incomplete: run `make setup`",),
        1,
        without_tools,
        quick=True,
    ),
)

# Settings that cannot be used. Each command reads them in the same way.
SETTINGS: Final = (
    Situation(
        "a settings file that is not there (another working directory)",
        _TOPICS,
        ("job.yaml: No such file or directory in", "expected the YAML file of a job"),
        2,
        lambda place: None,
        quick=True,
    ),
    Situation("a settings file that is a folder", "reasoner topics create --config .", ("Is a directory",), 2),
    Situation(
        "bad YAML", _TOPICS, ("line 2, column 1: is no YAML", "indent by spaces"), 2, settings_file(_TAB), quick=True
    ),
    Situation(
        "a settings file that is not UTF-8",
        _TOPICS,
        ("byte 0xe4", "save the file as UTF-8"),
        2,
        settings_file(b"name: k\xe4se"),
    ),
    Situation("an empty settings file", _TOPICS, ("lake: found nothing: expected a value",), 2, settings_file(b"")),
    Situation(
        "an unknown setting",
        _TOPICS,
        ("kafka.bootstrap_server: unknown name; did you mean bootstrap_servers?",),
        2,
        settings(kafka={"bootstrap_server": "kafka:9092"}),
        quick=True,
    ),
    Situation(
        "settings of a wrong type, all at once",
        "reasoner doctor --config job.yaml",
        ("2 faults", "engine.parallelism: found 'two': expected a whole number", "kafka.bounded", "true or false"),
        2,
        settings(engine={"parallelism": "two"}, kafka={"bounded": "perhaps"}),
    ),
    Situation(
        "a file of the password that is not there",
        "reasoner tables create --config job.yaml",
        ("lake.password_file: secret cannot be read", "expected a file with the password"),
        1,
        lake("jdbc:postgresql://127.0.0.1:5432/lake", password_file="secret"),
    ),
)

# Files that are no recordings.
RECORDINGS: Final = (
    Situation("a recording that is not there", "reasoner replay recordings", ("no such file or folder; expected",), 2),
    Situation(
        "a folder of recordings without files",
        "reasoner replay empty",
        ("holds no file; expected OTLP",),
        2,
        lambda place: (place.folder / "empty").mkdir(),
    ),
    Situation(
        "a file that is no OTLP",
        "reasoner replay oven.log",
        ("raw text, expected an OTLP", "expected files of the"),
        1,
        file("oven.log", _TEXT),
    ),
    Situation(
        "a recording of Jaeger",
        "reasoner replay traces.json",
        ("Jaeger JSON, expected an OTLP",),
        1,
        file("traces.json", _JAEGER),
    ),
    Situation(
        "a recording that is cut off",
        "reasoner explain logs.jsonl.gz",
        ("cannot be read", "record it again or cut it"),
        2,
        file("logs.jsonl.gz", gzip.compress(LINE * 9, mtime=0)[:-12]),
    ),
    Situation(
        "`explain` of a file that is no OTLP",
        "reasoner explain oven.log",
        ("no message of it is OTLP; expected",),
        1,
        file("oven.log", _TEXT),
    ),
    Situation("`explain` of a folder", "reasoner explain .", ("is a folder; expected a file",), 2),
    Situation(
        "an evaluation without its data",
        "reasoner evaluate nezha --data .",
        ("no faults.json; expected the folder",),
        2,
    ),
)

# Outputs that end early, and terminals that cannot show them.
TERMINALS: Final = (
    Situation("a reader that has read enough", "reasoner graph | head -1", ("STEP",), 0),
    Situation(
        "the same, of a long output", "reasoner explain logs.jsonl | head -1", ("log record of küche",), 1, _MANY
    ),
    Situation(
        "a terminal that is not UTF-8",
        "PYTHONIOENCODING=ascii reasoner explain logs.jsonl",
        ("k\\xfcche", "hei\\xdf"),
        0,
        file("logs.jsonl", LINE),
        quick=True,
    ),
    Situation(
        "Ctrl-C of `explain`",
        "reasoner explain long.jsonl",
        (),
        INTERRUPTED,
        long_recording,
        interrupt_when="/long.jsonl",
    ),
    Situation(
        "Ctrl-C of `replay`",
        "reasoner replay long.jsonl --out insights",
        (),
        INTERRUPTED,
        long_recording,
        interrupt_when="/long.jsonl",
    ),
)
