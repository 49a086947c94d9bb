"""What the Collector has acknowledged of a service: the ids of its spans, log records and metric points, in a file.

A test counts them again behind the Collector. What the SDK gave up is written too, with `-` before it: it was never
acknowledged, and may have arrived all the same.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from opentelemetry.trace import format_span_id

from examples.own_services.log_files import ID


def note(folder: Path, traces: Any, metrics: Any, logs: Any) -> None:
    """Let each exporter of a process write ids into a file of its own in `folder`, a line each, after each answer."""
    folder.mkdir(parents=True, exist_ok=True)
    for exporter, ids in ((traces, span_ids), (metrics, point_ids), (logs, log_ids)):
        exporter.export = _noting(exporter.export, ids, folder / f"{os.getpid()}-{ids.__name__}.ids")


def _noting(export: Callable[..., Any], ids: Callable[[Any], Iterable[str]], path: Path) -> Callable[..., Any]:
    def exported(batch: Any, *rest: Any, **named: Any) -> Any:
        result = export(batch, *rest, **named)
        sign = "" if result.name == "SUCCESS" else "-"
        with path.open("a") as file:  # of a process that may be killed: closed after each batch
            file.writelines(f"{sign}{found}\n" for found in ids(batch))
        return result

    return exported


def span_ids(spans: Iterable[Any]) -> Iterator[str]:
    return (f"span {format_span_id(span.context.span_id)}" for span in spans)


def log_ids(records: Iterable[Any]) -> Iterator[str]:
    return (f"log {record.log_record.attributes[ID]}" for record in records)


def point_ids(metrics: Any) -> Iterator[str]:
    """Yield service, metric, attributes and time of each point: together they identify it."""
    for resource in metrics.resource_metrics:
        service = resource.resource.attributes["service.name"]
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    attributes = json.dumps({name: str(value) for name, value in sorted(point.attributes.items())})
                    yield f"point {service} {metric.name} {attributes} {point.time_unix_nano}"
