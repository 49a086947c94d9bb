"""One service of the shop: `python -m examples.own_services.service NAME`, started by `shop.py`.

Faults come as lines on standard input, such as `delay_ms 120`. The process ends at the end of its input, so that no
service outlives the shop.
"""

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from socketserver import ThreadingMixIn
from typing import Any, NoReturn
from urllib.parse import parse_qs
from urllib.request import Request, urlopen
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, TopicAlreadyExistsError
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.metrics import get_meter
from opentelemetry.propagate import extract
from opentelemetry.trace import SpanKind, get_tracer

from examples.own_services import telemetry

ORDERS_TOPIC = "shop_orders"
TIMEOUT_S = 10.0

Handler = Callable[[Mapping[str, str]], dict[str, Any]]
log = logging.getLogger("shop")
tracer = get_tracer("shop")
random = Random(0)


class VoucherLedgerMismatch(RuntimeError):
    """The fault F2: an exception that the service did not have before."""


@dataclass
class Faults:
    """Faults of this process, changed while it runs."""

    # Milliseconds that each request, or each mail, takes longer.
    delay_ms: float = 0.0
    # Share of the orders, 0..1, that fail with VoucherLedgerMismatch.
    failing_share: float = 0.0

    def read(self, lines: Iterable[str]) -> None:
        """Set faults from lines such as `delay_ms 120` until their end."""
        for line in lines:
            name, value = line.split()
            setattr(self, name, float(value))


faults = Faults()


@dataclass(frozen=True)
class Addresses:
    """Where the services are. first_port: of the storefront; the others follow it in the order of `PORTS`."""

    first_port: int
    kafka: str

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.first_port + PORTS.index(service)}"


PORTS = ("storefront", "catalog", "orders", "pricing")


def work(name: str, median_ms: float, kind: SpanKind = SpanKind.INTERNAL) -> None:
    """Record a span that takes about median_ms, log-normal."""
    with tracer.start_as_current_span(name, kind=kind):
        time.sleep(median_ms * random.lognormvariate(0.0, 0.3) / 1_000)


def query(name: str, median_ms: float) -> None:
    """Record the span of a database client."""
    work(name, median_ms, SpanKind.CLIENT)


def call(url: str, method: str = "GET") -> dict[str, Any]:
    """Return the JSON answer of another service. Raises HTTPError where it failed."""
    with urlopen(Request(url, method=method), timeout=TIMEOUT_S) as answer:
        body: dict[str, Any] = json.load(answer)
        return body


def storefront(at: Addresses) -> dict[str, Handler]:
    """Return the pages of the shop."""

    def product(asked: Mapping[str, str]) -> dict[str, Any]:
        found = call(f"{at.url('catalog')}/product?id={asked['id']}")
        work("render product", 2.0)
        log.info("product %s shown to user %s", asked["id"], asked["user"])
        return found

    def checkout(asked: Mapping[str, str]) -> dict[str, Any]:
        try:
            order = call(f"{at.url('orders')}/order?id={asked['id']}&user={asked['user']}", "POST")
        except OSError as error:
            log.error("checkout of user %s failed: %s", asked["user"], error)
            raise
        work("render receipt", 2.0)
        log.info("checkout of user %s done", asked["user"])
        return order

    return {"/product": product, "/checkout": checkout}


def catalog(_: Addresses) -> dict[str, Handler]:
    """Return the service that knows the products."""

    def product(asked: Mapping[str, str]) -> dict[str, Any]:
        time.sleep(faults.delay_ms / 1_000)
        query("SELECT products", 3.0)
        query("SELECT stock", 2.0)
        if random.random() < 0.01:
            log.warning("stock of item %s is low: %d left", asked["id"], random.randint(1, 5))
        return {"id": asked["id"], "name": f"product {asked['id']}"}

    return {"/product": product}


def pricing(_: Addresses) -> dict[str, Handler]:
    """Return the service that knows the prices."""

    def price(asked: Mapping[str, str]) -> dict[str, Any]:
        time.sleep(faults.delay_ms / 1_000)
        query("SELECT prices", 2.0)
        log.info("price of item %s computed", asked["id"])
        return {"cents": 100 + int(asked["id"])}

    return {"/price": price}


def orders(at: Addresses, version: str) -> dict[str, Handler]:
    """Return the service that books orders. Version 2.0.0 asks for the price twice and logs no booking."""
    producer = KafkaProducer(bootstrap_servers=at.kafka)
    booked = get_meter("shop").create_counter("shop.orders")
    is_new = version == "2.0.0"

    def order(asked: Mapping[str, str]) -> dict[str, Any]:
        for _ in range(2 if is_new else 1):
            price = call(f"{at.url('pricing')}/price?id={asked['id']}")
        if random.random() < faults.failing_share:
            message = f"voucher ledger of user {asked['user']} is off by {random.randint(1, 500)}"
            raise VoucherLedgerMismatch(message)
        query("INSERT orders", 4.0)
        producer.send(ORDERS_TOPIC, json.dumps({"user": asked["user"], **price}).encode())
        booked.add(1)
        if not is_new:
            log.info("order of user %s booked", asked["user"])
        return price

    return {"/order": order}


def application(handlers: Mapping[str, Handler]) -> Callable[..., Iterable[bytes]]:
    """Return a WSGI application. An exception of a handler is recorded in a span and a log record, and answered 500."""

    def answer(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
        status, body = "200 OK", {}
        try:
            with tracer.start_as_current_span(path.removeprefix("/")):
                body = handlers[path](asked)
        except (RuntimeError, OSError):
            log.exception("%s failed", path)
            status = "500 Internal Server Error"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]

    return answer


class Server(ThreadingMixIn, WSGIServer):
    """A server whose port a newer process can share, and that waits at its end for the requests under way."""

    allow_reuse_port = True
    request_queue_size = 128


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Write nothing: requests are spans."""


def serve(port: int, handlers: Mapping[str, Handler]) -> None:
    """Answer requests until the standard input ends."""
    wrapped = OpenTelemetryMiddleware(application(handlers))
    with make_server("127.0.0.1", port, wrapped, server_class=Server, handler_class=Quiet) as server:
        follow_input(server.shutdown)
        server.serve_forever()
        server.timeout = 0.1
        for _ in range(5):  # requests that this process was given after it looked last
            server.handle_request()


def follow_input(end: Callable[[], None]) -> None:
    """Say that the service serves; take faults from standard input in a thread, and call `end` at its end."""

    def follow() -> None:
        faults.read(sys.stdin)
        end()

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    threading.Thread(target=follow, daemon=True).start()


def send_mails(kafka: str) -> None:
    """Consume orders and send a confirmation for each: the mailer, which has no server. It outlives the broker."""
    follow_input(exit_now)
    while True:
        try:
            confirm_orders(kafka)
        except KafkaError as error:  # the client gives up at once where no broker answers
            log.warning("no orders can be read: %s", error)
            time.sleep(1.0)


def confirm_orders(kafka: str) -> None:
    """Send mails until Kafka fails.

    The instrumentation's CONSUMER span ends before the work begins, so the work has a span of its own, whose parent is
    the producer's.
    """
    sent = get_meter("shop").create_counter("shop.mails")
    consumer = KafkaConsumer(ORDERS_TOPIC, bootstrap_servers=kafka, group_id="mailer", session_timeout_ms=10_000)
    for record in consumer:
        carrier = {name: value.decode() for name, value in record.headers}
        with tracer.start_as_current_span("send_confirmation", context=extract(carrier)):
            time.sleep((faults.delay_ms + 6.0 * random.lognormvariate(0.0, 0.3)) / 1_000)
            log.info("confirmation sent to user %s", json.loads(record.value)["user"])
        sent.add(1)


def exit_now() -> NoReturn:
    """End the process from any thread: a consumer that waits for a message cannot be interrupted."""
    telemetry.stop()
    os._exit(0)


def create_topic(kafka: str) -> None:
    """Create the topic of orders, where it is missing."""
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    with suppress(TopicAlreadyExistsError):
        admin.create_topics([ORDERS_TOPIC])
    admin.close()


def main() -> None:
    """Run the service that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*PORTS, "mailer"])
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--otlp", required=True)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--first-port", type=int, required=True)
    parser.add_argument("--logs", type=Path)
    parser.add_argument("--acknowledged", type=Path)
    given = parser.parse_args()
    telemetry.start(given.name, given.version, given.otlp, given.logs, given.acknowledged)
    at = Addresses(given.first_port, given.kafka)
    if given.name in ("orders", "mailer"):
        create_topic(at.kafka)
    if given.name == "mailer":
        send_mails(at.kafka)
    handlers = {
        "storefront": lambda: storefront(at),
        "catalog": lambda: catalog(at),
        "orders": lambda: orders(at, given.version),
        "pricing": lambda: pricing(at),
    }[given.name]()
    serve(given.first_port + PORTS.index(given.name), handlers)
    telemetry.stop()


if __name__ == "__main__":
    main()
