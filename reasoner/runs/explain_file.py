"""Reading of a file into the explainer, and its rows as lines for people or programs."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from jobs.settings import load
from operators.ingest.fold import FoldConfig
from reasoner.errors import WrongUse
from reasoner.recordings.read import BadLine, kept_timestamp_ms, raw_values
from reasoner.runs.explain import Explained, Explainer, NotCounted

RAW_SUFFIX: Final = ".bin"


def fold_config(path: Path | None) -> FoldConfig:
    """Return the masks and time limits of a job's file, or those of a job without settings. Raises BadConfig."""
    if path is None:
        return FoldConfig()
    return load(path).graph().fold


def add_messages(explainer: Explainer, file: Path) -> BadLine | None:
    """Add the messages of the file to the explainer. -> the position from which the file could not be read, if any."""
    if not file.is_file():
        message = f"{file}: no such file; expected OTLP/JSON lines, or the bytes of one message as {RAW_SUFFIX}"
        raise WrongUse(message)
    if file.suffix == RAW_SUFFIX:
        try:
            explainer.add(file.read_bytes())
        except OSError as error:
            return BadLine(file.name, 1, f"the file cannot be read: {error}")
        return None
    faults: list[BadLine] = []
    for _, value in raw_values(file, file.name, faults.append):
        explainer.add(value, kept_timestamp_ms(value))
    return faults[0] if faults else None


def json_lines(rows: Iterable[Explained | NotCounted]) -> Iterator[str]:
    """Yield a JSON object for each row."""
    # ASCII only: control characters and incomplete letters in a line must neither control a terminal nor break a pipe.
    for row in rows:
        if isinstance(row, NotCounted):
            found = {"rejected": row.reason, "detail": row.detail, "records": row.records, "signal": row.signal}
        else:
            found = asdict(row)
        yield json.dumps(found)


def tables(rows: Iterable[Explained | NotCounted]) -> Iterator[str]:
    """Yield lines for people: several lines for each row, then the number of rows of each kind."""
    counts: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, NotCounted):
            size = (
                f"records of a message of {row.signal}: {row.records}" if row.records else f"a message of {row.signal}"
            )
            yield _shown(f"rejected as {row.reason}, {size}")
            yield _shown(f"  {row.detail}")
            counts[f"rejected as {row.reason}"] += row.records or 1
        else:
            yield from map(_shown, _table(row))
            counts["log records" if row.signal == "logs" else "exceptions of spans"] += 1
        yield ""
    yield ", ".join(f"{kind}: {number:,}" for kind, number in counts.items()) or "no log record, no exception of a span"


def _table(row: Explained) -> Iterator[str]:
    kind = "log record" if row.signal == "logs" else "exception of a span"
    level = f"severity {row.severity_number or 'unknown'}, {'WARN or worse' if row.warning_or_worse else 'below WARN'}"
    yield f"{kind} of {row.service} in {row.env}: {level}"
    named = {
        "event": row.event_name,
        "exception": row.exception_type,
        "pattern": f"{row.pattern_id}  {row.template}",
        "masked": ", ".join(row.masked),
        "line": row.line,
    }
    yield from (f"  {name:10} {text}" for name, text in named.items() if text)


def _shown(text: str) -> str:
    """Escape each character of a text that would control a terminal."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
