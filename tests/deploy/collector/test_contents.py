"""What agent and gateway make of telemetry, read back from Kafka: names, masks, ids, sizes; and who may send."""

import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import Request

import pytest

from reasoner.clients.topics import KEEP_FOR_EVER_MS, TopicSpec, create_topics
from reasoner.stack import RunningStack, StackSettings, running
from reasoner.stack.collector import gateway
from reasoner.stack.component import Component
from reasoner.stack.loopback import answer_of
from reasoner.stack.settings import free_ports
from reasoner.waiting import wait_until
from state_schemas.contracts.settings import Topics
from tests.deploy.collector.contents import Seen, read, values
from tests.deploy.collector.fleet import WITH_OBSERVABILITY, recorder, refusal
from tests.deploy.collector.telemetry import EVENTS, FRACTION, SECRETS, SMALL, SPAN, TRACE, requests
from tests.support.components import skip_unless_set_up
from tests.support.parts import OTELCOL, PROMETHEUS, skip_unless_made

pytestmark = pytest.mark.deploy

DIGEST: Final = "shop/cart@sha256:" + "a" * 64
JSON_LINE: Final = {
    "ts": "2026-11-30T21:29:00.123456+01:00",
    "severity": "critical",
    "msg": "mail to jo@shop.example failed",
    "traceId": TRACE,
    "spanId": SPAN,
    "user_id": "17",
    "password": "hunter2",
}
OF_PINO: Final = '{"level":50,"time":1796074140123,"msg":"pino says","service":{"name":"x"},"trace_id":7}'
OF_ZAP: Final = '{"level":"warn","ts":1796074140.25,"msg":"zap says"}'
TEXT_LINES: Final = (
    f"2026-11-30 21:29:01,001 ERROR book failed trace_id={TRACE} span_id={SPAN}",
    "Traceback (most recent call last):",
    '  File "book.py", line 3, in book',
    "ValueError: card 4111111111111111 is off by 3",
    "2026-11-30 21:29:02,001 WARNING next",
)
POD_LINES: Final = (
    "2026-11-30T21:29:03.000000001Z stdout P a long line, ",
    "2026-11-30T21:29:03.000000002Z stdout F in two parts",
    "2026-11-30T21:29:04.000000001Z stderr F java.lang.IllegalStateException: off",
    "2026-11-30T21:29:04.000000002Z stderr F \tat shop.Book.run(Book.java:3)",
    "2026-11-30T21:29:04.000000003Z stderr F Caused by: java.io.IOException: gone",
    "2026-11-30T21:29:05.000000001Z stdout F done",
)
CADVISOR: Final = (
    "# TYPE container_cpu_usage_seconds_total counter\n"
    f'container_cpu_usage_seconds_total{{id="/docker/1",name="cart-1",image="{DIGEST}"}} 5\n'
)


class Cadvisor(BaseHTTPRequestHandler):
    """What cAdvisor answers, as Docker's containers appear in it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(CADVISOR.encode())

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def write_logs(folder: Path) -> dict[str, str]:
    """Write a file of each kind; return the variables of the agent that name them."""
    pod = folder / "pods" / "shop_cart-7d4b_0b1c-2d3e" / "cart"
    docker = folder / "containers" / ("c" * 64)
    for path in (folder / "services" / "billing", folder / "services" / "ledger", pod, docker):
        path.mkdir(parents=True)
    (folder / "services" / "billing" / "app.json").write_text(
        "\n".join((json.dumps(JSON_LINE), OF_PINO, OF_ZAP, "no JSON", ""))
    )
    (folder / "services" / "ledger" / "app.log").write_text("\n".join(TEXT_LINES) + "\n")
    (pod / "0.log").write_text("\n".join(POD_LINES) + "\n")
    attrs = {"tag": f"cart-1|{DIGEST}|sha256:{'b' * 64}"}
    line = {"log": "WARN: of docker\n", "stream": "stdout", "time": "2026-11-30T21:29:06.5Z", "attrs": attrs}
    (docker / f"{'c' * 64}-json.log").write_text(json.dumps(line) + "\n")
    return {
        "JSON_LOGS": f"[{folder}/services/*/*.json]",
        "TEXT_LOGS": f"[{folder}/services/*/*.log]",
        "POD_LOGS": f"[{folder}/pods/*/*/*.log]",
        "DOCKER_LOGS": f"[{folder}/containers/*/*-json.log]",
    }


def is_there(bootstrap: str) -> Seen | None:
    seen = read(bootstrap)
    bodies = [record.body.string_value for _, record in seen.logs]
    wanted = ("huge", "mail to", "book failed", "next", "two parts", "Caused by", "done", "of docker", "no JSON")
    bulk = sum(body.startswith("bulk") for body in bodies)
    small = (sum(span.name == "small" for _, span in seen.spans), bodies.count("small"))
    there = bulk >= 30 and min(small) >= 2 * SMALL and all(any(part in body for body in bodies) for part in wanted)
    metrics = {"orders", "sizes", "container_cpu_usage_seconds_total", "system.cpu.time"}
    return seen if there and metrics <= {name for _, name, _ in seen.points} else None


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackSettings]:
    """Run `reasoner stack up kafka --with collector` with a file of each kind to read."""
    skip_unless_set_up()
    skip_unless_made(OTELCOL)
    folder = tmp_path_factory.mktemp("contents")
    with ThreadingHTTPServer(("127.0.0.1", 0), Cadvisor) as cadvisor, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=cadvisor.serve_forever, daemon=True).start()
        variables = {
            "CADVISOR_TARGETS": f"[127.0.0.1:{cadvisor.server_port}]",
            "METRICS_INTERVAL": "2s",
            "SITE_ID": "7",
            **write_logs(folder),
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        with running(StackSettings(folder=folder / "stack").with_auto_ports(), ["kafka", "collector"]) as stack:
            with_observability(stack)
            yield stack.settings
        cadvisor.shutdown()


def with_observability(stack: RunningStack) -> None:
    """Start the gateway again with Loki, Tempo and Mimir: a Collector with files, and Prometheus, in their places."""
    folder = stack.settings.folder / "collector"
    grpc, http, sampling = free_ports(3)
    remote = f"{stack.settings.prometheus_url}/api/v1/write"
    given = {"LOKI": f"http://127.0.0.1:{http}", "TEMPO": f"127.0.0.1:{grpc}", "MIMIR": remote, "SAMPLING_WAIT": "2s"}
    given |= {"SAMPLING_PORT": str(sampling), "SAMPLING_GATEWAYS": f"[localhost:{sampling}]"}
    stack.supervisor.down(["collector-gateway"])
    sinks = [recorder("collector-loki", folder / "loki", (grpc, http))]
    sinks += [mimir(stack.settings)] if PROMETHEUS.exists() else []
    stack.supervisor.up([*sinks, gateway(stack.settings, files=WITH_OBSERVABILITY, variables=given)])


def mimir(settings: StackSettings) -> Component:
    folder, address = settings.folder / "collector", f"127.0.0.1:{settings.prometheus_port}"
    (folder / "mimir.yml").write_text("storage: {tsdb: {out_of_order_time_window: 30m}}")
    words = [str(PROMETHEUS), f"--config.file={folder}/mimir.yml", f"--storage.tsdb.path={folder}/mimir"]
    return Component(
        name="collector-mimir",
        folder=folder,
        command=lambda: [*words, f"--web.listen-address={address}", "--web.enable-remote-write-receiver"],
        not_ready_because=lambda: None if series(settings, "vector(1)") else "it does not answer",
    )


def series(settings: StackSettings, query: str) -> list[dict[str, Any]]:
    """Return the answer of Prometheus; nothing while it does not answer."""
    try:
        with answer_of(f"{settings.prometheus_url}/api/v1/query?{urlencode({'query': query})}", 10.0) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found
    except OSError:
        return []


@pytest.fixture(scope="module")
def seen(settings: StackSettings) -> Seen:
    """Send by OTLP, and return what is in Kafka when everything has come."""
    topics = Topics()
    names = (topics.traces, topics.logs, topics.metrics)
    create_topics(settings.kafka_bootstrap, dict.fromkeys(names, TopicSpec(2, KEEP_FOR_EVER_MS)))
    for signal, request in requests(time.time_ns()):
        address = f"http://127.0.0.1:{settings.collector_http_port}/v1/{signal}"
        headers = {"Content-Type": "application/x-protobuf"}
        with answer_of(Request(address, data=request.SerializeToString(), headers=headers), 30.0) as answer:
            assert answer.status == 200
    found = wait_until(partial(is_there, settings.kafka_bootstrap), "everything is in Kafka", 90.0, 1.0)
    assert found is not None
    return found


def test_labels_stand_beside_the_names_of_opentelemetry(seen: Seen) -> None:
    resource, _ = seen.span("fail")
    assert (resource["env"], resource["deployment.environment.name"]) == ("prod", "prod"), "from its old name"
    assert (resource["service"], resource["service.name"]) == ("cart", "cart")
    assert resource["host"] == resource["host.name"]
    assert str(resource["site_id"]) == "7"


def test_no_secret_is_in_kafka(seen: Seen) -> None:
    assert not [secret for secret in SECRETS if secret in seen.text.replace(str(FRACTION), "")]
    resource, span = seen.span("pay by ****")
    assert "process.command_args" not in resource
    attributes = values(span.attributes)
    assert attributes["http.request.header.authorization"] == "****"
    assert attributes["url.full"] == "http:****h/x", "only the part that is secret"
    assert attributes["user.id"] == "17", "an id of a user is no secret, and a trace is found by it"
    message = values(seen.span("fail")[1].events[0].attributes)["exception.message"]
    assert message == "key ****, ****, no basic configuration"


def test_secrets_in_lines_are_masked_in_each_form_and_the_rest_stays(seen: Seen) -> None:
    lines = [seen.line(f"form {number} ")[1].body.string_value for number in range(1, 7)]
    assert lines == [
        "form 1 {****",
        r"form 2 {\****",
        "form 3 POSTGRES_**** stays",
        "form 4 GET /x?access_****&a=stays",
        "form 5 ****",
        "form 6 ****",
    ]


def test_masks_reach_lists_maps_numbers_names_and_statuses_and_leave_the_others(seen: Seen) -> None:
    _, span = seen.span("pay by ****")
    assert span.status.message == "denied: ****"
    attributes = values(span.attributes)
    assert attributes["cards"] == '["none","****"]'
    assert attributes["headers"] == '{****,"n":{****}}'
    assert attributes["lines"] == '["{\\****]', "also in a text within"
    assert attributes["settings"] == '{"db":{****},"k":"v"}'
    assert attributes["jar"] == "{****,****}"
    assert attributes["card"] == "****"
    assert attributes["share"] == FRACTION, "its decimals are no card"
    assert attributes["names"] == ["a", "b"], "a list without a secret stays one"
    assert not [name for name in attributes if name.startswith("otelcol")]


def test_ids_of_users_make_no_series_and_points_that_differ_in_them_are_added(seen: Seen) -> None:
    ((resource, point),) = [(resource, point) for resource, name, point in seen.points if name == "orders"]
    assert "enduser.id" not in resource
    assert values(point.attributes) == {"http.route": "/pay"}
    assert point.as_int == 6


def test_loki_gets_masked_lines_and_no_label_of_a_user(seen: Seen, settings: StackSettings) -> None:
    assert "user.id" in seen.line("bulk 1 ")[0], "Kafka has it"
    recording = settings.folder / "collector" / "loki" / "logs.jsonl"
    wait_until(lambda: "login of ****" in recording.read_text(), "Loki has the lines", 60.0)
    parts = [part for line in recording.read_text().splitlines() for part in json.loads(line)["resourceLogs"]]
    keys = {attribute["key"] for part in parts for attribute in part["resource"]["attributes"]}
    assert {"service", "env", "site_id", "host"} <= keys
    assert "user.id" not in keys
    assert not [secret for secret in SECRETS if secret in recording.read_text()]


def test_tempo_gets_masked_spans(seen: Seen, settings: StackSettings) -> None:
    assert seen.spans
    recording = settings.folder / "collector" / "loki" / "traces.jsonl"
    wait_until(lambda: recording.exists() and "pay by ****" in recording.read_text(), "Tempo has the trace", 60.0)
    assert not [secret for secret in SECRETS if secret in recording.read_text().replace(str(FRACTION), "")]


def test_series_of_mimir_have_the_labels_and_none_of_a_user(seen: Seen, settings: StackSettings) -> None:
    assert seen.points
    skip_unless_made(PROMETHEUS)
    (found,) = wait_until(lambda: series(settings, "orders_total"), "Mimir has the sum", 60.0)
    assert found["value"][1] == "6"
    labels = found["metric"]
    assert (labels["service"], labels["service_instance_id"], labels["http_route"]) == ("cart", "4711", "/pay")
    assert {"env", "host", "site_id"} <= set(labels)
    assert not [name for name in labels if "user" in name or "request" in name]


def test_a_line_of_json_has_time_severity_trace_and_its_words(seen: Seen) -> None:
    resource, record = seen.line("mail to")
    assert resource["service.name"] == "billing", "the folder"
    assert record.body.string_value == "mail to **** failed"
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE, SPAN)
    assert record.severity_number == 21, "critical is fatal"
    assert record.time_unix_nano == 1_796_070_540_123_456_000
    assert {"ts", "severity", "traceId", "level", "time"} & set(values(record.attributes)) == set()
    assert seen.line("no JSON")[0]["service.name"] == "billing", "another line stays as it is"


def test_numbers_of_pino_and_zap_are_times_and_severities(seen: Seen) -> None:
    pino, zap = seen.line("pino says")[1], seen.line("zap says")[1]
    assert (pino.severity_number, pino.time_unix_nano) == (17, 1_796_074_140_123_000_000)
    assert (zap.severity_number, zap.time_unix_nano) == (13, 1_796_074_140_250_000_000)


def test_a_stack_trace_in_a_text_file_is_one_record(seen: Seen) -> None:
    resource, record = seen.line("book failed")
    assert resource["service.name"] == "ledger"
    first, *others = record.body.string_value.splitlines()
    assert first == f"book failed trace_id={TRACE} span_id={SPAN}", "time and level are fields"
    assert others == [*TEXT_LINES[1:3], "ValueError: card **** is off by 3"]
    assert record.time_unix_nano == 1_796_074_141_001_000_000
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE, SPAN)
    assert (record.severity_number, seen.line("next")[1].severity_number) == (17, 13)


def test_lines_of_a_pod_are_joined_and_named_by_their_path(seen: Seen) -> None:
    resource, record = seen.line("two parts")
    assert record.body.string_value == "a long line, in two parts"
    assert (resource["k8s.namespace.name"], resource["k8s.pod.name"]) == ("shop", "cart-7d4b")
    assert (resource["service"], resource["k8s.container.name"]) == ("cart", "cart")
    trace = seen.line("Caused by")[1]
    assert trace.body.string_value.splitlines() == [line.split(" F ")[1] for line in POD_LINES[2:5]]
    assert trace.time_unix_nano == 1_796_074_144_000_000_001, "that of the first line"
    assert seen.line("done")[1].body.string_value == "done"


def test_a_container_of_docker_has_name_image_and_digest(seen: Seen) -> None:
    resource, record = seen.line("of docker")
    assert resource["container.id"] == "c" * 64
    assert (resource["container.name"], resource["container.image.name"]) == ("cart-1", "shop/cart")
    assert resource["container.image.repo_digests"] == [DIGEST]
    assert values(record.attributes)["log.iostream"] == "stdout"


def test_figures_of_cadvisor_belong_to_their_container(seen: Seen) -> None:
    resource, point = next((r, p) for r, name, p in seen.points if name == "container_cpu_usage_seconds_total")
    assert (resource["container.name"], resource["container.image.name"]) == ("cart-1", "shop/cart")
    assert resource["container.image.repo_digests"] == [DIGEST]
    assert values(point.attributes) == {"id": "/docker/1"}
    assert resource["service"] == "cart-1", "not that of the receiver"


def test_messages_stay_below_the_limit_and_a_line_beyond_it_is_cut(seen: Seen) -> None:
    assert max(seen.bytes) < 1_000_000
    assert sum(record.body.string_value.startswith("bulk") for _, record in seen.logs) == 30
    assert len(seen.line("huge")[1].body.string_value.encode()) == 262_143, "between two characters"


def test_a_large_record_is_cut_and_those_around_it_arrive(seen: Seen) -> None:
    """Each of them exceeds the batches of agent and gateway, which would drop it with all that follow."""
    assert sum(span.name == "small" for _, span in seen.spans) == 2 * SMALL
    assert sum(record.body.string_value == "small" for _, record in seen.logs) == 2 * SMALL
    stacks = [values(event.attributes).get("exception.stacktrace") for event in seen.span("retries")[1].events]
    assert len(stacks) == EVENTS
    assert stacks[:39] == [f"{attempt} " + "s" * 8_000 for attempt in range(39)], "as many as there is room for"
    assert not any(stacks[39:])
    assert len(seen.span("attributes")[1].attributes) == 128
    assert seen.span("of a large resource")[0]["service"] == "of-host"
    assert len(seen.line('{"field 0":')[1].body.string_value) == 262_144
    assert len(values(seen.line("with a list")[1].attributes)["items"]) == 1_000
    (point,) = [point for _, name, point in seen.points if name == "sizes"]
    assert (sum(point.bucket_counts), len(point.explicit_bounds)) == (60_001, len(point.bucket_counts) - 1)
    assert len(point.bucket_counts) <= 1_000
    assert point.exemplars[0].trace_id.hex() == TRACE


def test_a_sender_without_a_certificate_is_refused(settings: StackSettings) -> None:
    certificates = settings.folder / "collector" / "certificates"
    assert "certificate required" in refusal(settings.collector_gateway_port, certificates)
    assert refusal(settings.collector_gateway_port, certificates, name="agent") == ""
