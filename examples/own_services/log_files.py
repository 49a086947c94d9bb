"""Plain log files of two services: one of JSON lines, one of text in which a stack trace follows its line."""

import json
import logging
import uuid
from datetime import UTC, datetime
from pathlib import Path

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

ID = "log.record.uid"  # OpenTelemetry's name for what tells two records of the same words apart


def handler(folder: Path, service: str) -> logging.Handler | None:
    """Return the handler of a service that writes its log records into a file of its own; None for the others."""
    formatters = {"catalog": (".json", JsonLines()), "orders": (".log", Text())}
    if service not in formatters:
        return None
    suffix, formatter = formatters[service]
    path = folder / service / f"{service}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = logging.FileHandler(path)
    made.setFormatter(formatter)
    return made


def with_id(record: logging.LogRecord) -> bool:
    """Give a log record its id; a filter that lets each pass."""
    record.__dict__[ID] = uuid.uuid4().hex
    return True


class JsonLines(logging.Formatter):
    """An object a line, with the ids of the trace."""

    def format(self, record: logging.LogRecord) -> str:
        context = get_current_span().get_span_context()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "message": record.getMessage(),
            "trace_id": format_trace_id(context.trace_id),
            "span_id": format_span_id(context.span_id),
            ID: record.__dict__[ID],
        }
        return json.dumps(line)


class Text(logging.Formatter):
    """A line with time and level, and the stack trace of an exception in the lines after it."""

    def format(self, record: logging.LogRecord) -> str:
        context = get_current_span().get_span_context()
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        ids = f"trace_id={format_trace_id(context.trace_id)} span_id={format_span_id(context.span_id)}"
        line = f"{time} {record.levelname} {record.getMessage()} {ids} id={record.__dict__[ID]}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
