"""A Collector with an exporter that reaches the broker and one that does not, its host's metrics, and Flink's."""

import json
import time
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request

import yaml

from reasoner.stack.component import Component
from reasoner.stack.loopback import answer_of
from tests.support.parts import OTELCOL

TOPIC: Final = "probe"


def collector(folder: Path, ports: tuple[int, int, int, int], bootstrap: str, prometheus_url: str) -> Component:
    """Return the Collector. ports: of its metrics, of OTLP/HTTP to the broker and to none, of OTLP/gRPC to a file."""
    metrics, reached, away, flink = ports
    own = folder / "collector"

    def exporter(broker: str, queue_size: int) -> dict[str, Any]:
        retries = {"initial_interval": "1s", "max_interval": "1s", "max_elapsed_time": "2s"}
        return {
            "brokers": [broker],
            "traces": {"topic": TOPIC, "encoding": "otlp_proto"},
            "sending_queue": {"queue_size": queue_size},
            "retry_on_failure": retries,
        }

    def prepare() -> None:
        own.mkdir(parents=True, exist_ok=True)
        reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": metrics}}}}
        http = {name: {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}} for name, port in inputs.items()}
        config = {
            "receivers": {
                **http,
                "otlp/flink": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{flink}"}}},
                "host_metrics": {"collection_interval": "2s", "scrapers": {"filesystem": {}}},
            },
            "exporters": {
                "kafka": exporter(bootstrap, 1_000),
                "kafka/away": exporter("127.0.0.1:1", 3),
                "file": {"path": str(flink_metrics(folder)), "flush_interval": "1s"},
                "prometheus_remote_write": {"endpoint": f"{prometheus_url}/api/v1/write"},
            },
            "service": {
                "telemetry": {"metrics": {"readers": [reader]}},
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "exporters": ["kafka"]},
                    "traces/away": {"receivers": ["otlp/away"], "exporters": ["kafka/away"]},
                    "metrics/flink": {"receivers": ["otlp/flink"], "exporters": ["file"]},
                    "metrics": {"receivers": ["host_metrics"], "exporters": ["prometheus_remote_write"]},
                },
            },
        }
        (own / "config.yaml").write_text(yaml.safe_dump(config))

    inputs = {"otlp": reached, "otlp/away": away}
    return Component(
        name="probe-collector",
        folder=own,
        prepare=prepare,
        command=lambda: [str(OTELCOL), "--config", str(own / "config.yaml")],
        not_ready_because=lambda: None if send_spans(reached, 1) == 1 else "no answer to OTLP/HTTP",
    )


def flink_metrics(folder: Path) -> Path:
    """Return the file of what Flink has sent to the Collector of a stack."""
    return folder / "collector" / "flink.jsonl"


def flink_sum(folder: Path, metric: str) -> float:
    """Return the largest sum, over all points of one report, of a metric of the job whose name ends so."""
    path, largest = flink_metrics(folder), 0.0
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if not line.endswith("\n"):
            break  # is being written
        scopes = [scope for part in json.loads(line)["resourceMetrics"] for scope in part["scopeMetrics"]]
        found = [one for scope in scopes for one in scope["metrics"] if one["name"].endswith(metric)]
        points = [point for one in found for point in one.get("sum", one.get("gauge", {})).get("dataPoints", ())]
        largest = max(largest, sum(float(point.get("asInt", point.get("asDouble", 0))) for point in points))
    return largest


def send_spans(port: int, number: int) -> int:
    """Send so many requests of one span; return how many were accepted."""
    now_ns = time.time_ns()
    span = {
        "traceId": f"{now_ns:032x}",
        "spanId": f"{now_ns % (1 << 60):016x}",
        "name": "probe",
        "kind": 1,
        "startTimeUnixNano": str(now_ns - 1_000_000),
        "endTimeUnixNano": str(now_ns),
    }
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    return sum(_is_accepted(port, body) for _ in range(number))


def _is_accepted(port: int, body: bytes) -> bool:
    request = Request(f"http://127.0.0.1:{port}/v1/traces", body, {"Content-Type": "application/json"})
    try:
        answer_of(request, 5.0).close()
    except HTTPError as refused:
        refused.close()
        return False
    except OSError:
        return False
    return True
