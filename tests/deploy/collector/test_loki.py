"""Log records -> agent -> mTLS -> gateway -> a real Loki with the file of `deploy`, read back by queries.

No broker runs: what Loki gets does not wait for Kafka.
"""

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.request import Request

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from reasoner.stack import StackSettings
from reasoner.stack.collector import agent, gateway
from reasoner.stack.loopback import answer_of
from reasoner.stack.settings import free_ports
from reasoner.stack.supervisor import Supervisor
from reasoner.waiting import wait_until
from tests.deploy.collector.fleet import WITH_OBSERVABILITY
from tests.deploy.collector.loki_server import Loki
from tests.support.parts import LOKI, OTELCOL, skip_unless_made

pytestmark = pytest.mark.deploy

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
# 12 MB at once, more than Loki takes in a second; 1,000 such lines, a batch of the gateway, more than in one request.
BULK: Final = 1_500
BULK_BYTES: Final = 8_000
SHORT: Final = 1_000  # lines of each resource below
USUAL_BYTES, LARGE_BYTES = 1_500, 40_000  # of a resource's attributes; a batch of the latter is beyond Loki's defaults
OF_OTHERS: Final = 5
LINE_BYTES_MAX: Final = 262_144  # of the gateway, and of Loki
STACK_BYTES_MAX: Final = 65_536  # of an attribute
ATTRIBUTES_MAX: Final = 128
HOURS_LATE: Final = 2  # behind the newest line of its stream, where Loki's default is one
DAYS_OLD: Final = 9  # of a file that an agent reads late, within the 14 that Loki keeps
INDEXED: Final = {"env", "service", "site_id", "host", "service_name", "service_namespace"}


@pytest.fixture
def loki(tmp_path: Path) -> Loki:
    skip_unless_made(LOKI, OTELCOL)
    return Loki(tmp_path / "stack" / "loki", *free_ports(2))


@pytest.fixture
def settings(tmp_path: Path, loki: Loki) -> Iterator[StackSettings]:
    """Run Loki, a gateway and an agent."""
    settings = StackSettings(folder=tmp_path / "stack").with_auto_ports().resolved()
    given = {"LOKI": f"http://127.0.0.1:{loki.http_port}/otlp", "SAMPLING_PORT": str(free_ports(1)[0])}
    given["MIMIR"] = "http://127.0.0.1:1/api/v1/push"  # no service is there
    supervisor = Supervisor(settings.folder, die_with_parent=True)
    # A slow gateway masks less than 1,000 lines in the second after which a batch goes; five give it a full one.
    files = (*WITH_OBSERVABILITY, "yaml:processors::batch::timeout: 5s")
    # Killed at the end: it would wait 20 s for the broker.
    ours = replace(gateway(settings, files=files, variables=given), stop_signal=signal.SIGKILL)
    try:
        supervisor.up([loki.component(), ours, agent(settings, {"SITE_ID": "7"})])
        yield settings
    finally:
        supervisor.down()


def test_loki(settings: StackSettings, loki: Loki, verdict: dict[str, Any]) -> None:
    shorts = [short("usual", USUAL_BYTES), short("large", LARGE_BYTES)]
    count = send_all(settings, [*bulk(), special(), of_another_service(), late("archive", DAYS_OLD * 24), *shorts], 0)
    sent = send_all(settings, [late("cart", HOURS_LATE)], count)
    verdict |= {"records": sent, "refused": exported(settings, "send_failed")}
    assert verdict["refused"] == 0
    verdict["lines"] = {env: len(loki.lines(f'{{service_name=~".+", env="{env}"}}')) for env in ("prod", "dev")}
    assert verdict["lines"] == {"prod": count - OF_OTHERS - 1, "dev": OF_OTHERS}, "but for the late ones"
    for name in ("usual", "large"):
        assert len(set(loki.lines(f'{{service="{name}"}}'))) == SHORT, f"each line of a resource of {name} size"
    assert loki.lines('{service="cart"} |= "late"', HOURS_LATE + 1) == ["late"], "beside the newer ones of its stream"
    each_record_is_found(loki)
    verdict["labels"] = sorted(loki.labels())
    assert set(verdict["labels"]) == INDEXED, "an id of a user, a request, a process or a pod would make streams"
    streams = {(one["service"], one["env"], one["site_id"]) for one in loki.streams()}
    in_prod = {(name, "prod", "7") for name in ("cart", "usual", "large")}
    assert streams == {*in_prod, ("ledger", "dev", "7")}
    assert list((loki.folder / "empty").iterdir()) == [], "Loki writes into its volume alone"
    verdict["pass"] = True


def each_record_is_found(loki: Loki) -> None:
    """Find the records by what a person knows of them."""
    login = ["login of ****"]
    cart = '{service="cart", env="prod", site_id="7"}'
    assert loki.lines(f'{cart} | trace_id="{TRACE}"') == login
    # As Grafana asks from a span to its lines, with the setting of deploy/grafana/provisioning.
    of_line = f'log_line_contains_trace_id=`{{{{ contains "{TRACE}" __line__ }}}}`'
    either = f'log_line_contains_trace_id="true" or trace_id="{TRACE}"'
    assert loki.lines(f'{{service_name="cart", service_namespace="shop"}} | label_format {of_line} | {either}') == login
    assert loki.lines(f'{cart} | user_id="17" | request_id="r-1"') == login, "searchable, and no label"
    assert loki.lines('{service="ledger"} | user_id="17"') == [], "of the resource, where a Loki can make a label of it"
    assert loki.lines(f'{cart} |= "jo@shop.example"') == []
    assert loki.lines(f'{cart} | k8s_pod_name="cart-7d4b" |= "bulk 1 "') == [body(1)]
    assert [len(line) for line in loki.lines(f'{cart} |= "largest"')] == [LINE_BYTES_MAX]
    assert loki.lines(f'{cart} | exception_stacktrace=~"at .*" | a100="x"') == ["with a stack trace"]


def bulk() -> Iterator[ExportLogsServiceRequest]:
    for first in range(0, BULK, 500):
        request, records = of_service("cart", "prod")
        for number in range(first, first + 500):
            add_record(records, body(number))
        yield request


def body(number: int) -> str:
    return f"bulk {number} ".ljust(BULK_BYTES, "x")


def special() -> ExportLogsServiceRequest:
    request, records = of_service("cart", "prod")
    login = add_record(records, "login of jo@shop.example", user_id="17", request_id="r-1")
    login.trace_id, login.span_id, login.severity_number = bytes.fromhex(TRACE), bytes.fromhex(SPAN), 17
    add_record(records, "largest " + "x" * LINE_BYTES_MAX)
    many = {f"a{number}": "x" for number in range(ATTRIBUTES_MAX - 1)}
    add_record(records, "with a stack trace", exception__stacktrace="at " + "y" * STACK_BYTES_MAX, **many)
    return request


def of_another_service() -> ExportLogsServiceRequest:
    request, records = of_service("ledger", "dev")
    for number in range(OF_OTHERS):
        add_record(records, f"booked {number}")
    return request


def short(name: str, resource_bytes: int) -> ExportLogsServiceRequest:
    """Return short lines of a resource with that much in its attributes."""
    request, records = of_service(name, "prod")
    many = {f"note{number}": "x" * (resource_bytes // 10) for number in range(10)}
    add(request.resource_logs[0].resource.attributes, **many)
    for number in range(SHORT):
        add_record(records, f"short {number}")
    return request


def late(name: str, hours: int) -> ExportLogsServiceRequest:
    request, records = of_service(name, "prod")
    add_record(records, "late").time_unix_nano -= hours * 3_600 * 10**9
    return request


def of_service(name: str, env: str) -> tuple[ExportLogsServiceRequest, Any]:
    request = ExportLogsServiceRequest()
    part = request.resource_logs.add()
    ids = {"user__id": "17", "service__instance__id": f"{name}-4711", "k8s__pod__name": f"{name}-7d4b"}
    add(part.resource.attributes, service__name=name, service__namespace="shop", deployment__environment=env, **ids)
    return request, part.scope_logs.add().log_records


def add_record(records: Any, text: str, **attributes: str) -> Any:
    record = records.add(time_unix_nano=time.time_ns(), severity_number=9)
    record.body.string_value = text
    add(record.attributes, **attributes)
    return record


def add(attributes: Any, **given: str) -> None:
    for name, value in given.items():
        attribute = attributes.add()
        attribute.key, attribute.value.string_value = name.replace("__", "."), value


def send_all(settings: StackSettings, requests: list[ExportLogsServiceRequest], before: int) -> int:
    """Send and wait until the gateway has sent or dropped all; return how many these are with those before."""
    for request in requests:
        send(settings, request)
    parts = [part for request in requests for part in request.resource_logs]
    count = before + sum(len(scope.log_records) for part in parts for scope in part.scope_logs)
    wait_until(lambda: exported(settings, "sent") + exported(settings, "send_failed") >= count, "all are sent", 90.0)
    return count


def send(settings: StackSettings, request: ExportLogsServiceRequest) -> None:
    address = f"http://127.0.0.1:{settings.collector_http_port}/v1/logs"
    headers = {"Content-Type": "application/x-protobuf"}
    answer_of(Request(address, data=request.SerializeToString(), headers=headers), 30.0).close()


def exported(settings: StackSettings, outcome: str) -> int:
    """Return how many records the gateway's exporter to Loki counts with this outcome."""
    with answer_of(f"http://127.0.0.1:{settings.collector_gateway_metrics_port}/metrics", 10.0) as answer:
        lines = answer.read().decode().splitlines()
    name, label = f"otelcol_exporter_{outcome}_log_records", 'exporter="otlp_http/loki"'
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name) and label in line)
