"""The shop: its five services, visitors at a steady rate, and faults that a POST switches on and off.

`make shop` runs it until Ctrl-C. `curl -X POST 127.0.0.1:8300/faults/F1/on` switches a fault on, `off` ends it.
"""

import argparse
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from urllib.request import Request, urlopen

SERVICES = ("pricing", "catalog", "mailer", "orders", "storefront")  # in the order in which they are started
# Fault -> service and the line that begins it. F3 and F4 end a process instead.
KNOBS = {
    "F1": (("catalog", "delay_ms", 120.0),),
    "F2": (("orders", "failing_share", 0.2),),
    "F5": (("pricing", "delay_ms", 150.0), ("mailer", "delay_ms", 300.0)),
}
FAULTS = {
    "F1": "catalog answers 120 ms later",
    "F2": "a new exception in 20 % of the check-outs",
    "F3": "the mailer is killed",
    "F4": "version 2.0.0 of orders is deployed: it asks twice for the price and logs no booking",
    "F5": "pricing answers 150 ms later, and each mail takes 300 ms longer",
}
CHECKOUT_EVERY = 10  # one visitor in ten buys
VISITORS = 64  # at once
READY = "ready\n"  # what a service prints when it serves
# Spans of a visitor who looks at a product (storefront: 4, catalog: 4), and of one who buys (storefront: 4, orders: 5,
# pricing: 3, mailer: 2).
SPANS_LOOK, SPANS_BUY = 8, 14


class Shop:
    """The processes of the services."""

    def __init__(self, places: dict[str, str]) -> None:
        self._places = [word for option in places.items() for word in option]
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self.on: set[str] = set()
        for name in SERVICES:
            self._start(name)

    def switch(self, fault: str, on: bool) -> None:
        """Begin or end a fault. Switching it twice changes nothing."""
        with self._lock:
            if (fault in self.on) == on:
                return
            self.on ^= {fault}
            if fault == "F3" and on:
                _kill(self._processes.pop("mailer"))
            elif fault == "F3":
                self._start("mailer")
            elif fault == "F4":
                self._replace("orders", "2.0.0" if on else "1.0.0")
            else:
                for service, name, value in KNOBS[fault]:
                    self._send(service, f"{name} {value if on else 0.0}")

    def close(self) -> None:
        """End all services, callers before those that they call."""
        for name in reversed(SERVICES):
            if name in self._processes:
                _end(self._processes.pop(name))

    def _start(self, name: str, version: str = "1.0.0") -> None:
        """Start a service and wait until it serves."""
        words = [sys.executable, "-m", "examples.own_services.service", name, "--version", version, *self._places]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._processes[name] = process
        assert process.stdout is not None
        if process.stdout.readline() != READY:
            message = f"{name} did not start; its error stands above"
            raise SystemExit(message)

    def _replace(self, name: str, version: str) -> None:
        """Deploy a version: the old process ends when the new one serves on the same port, so no request fails."""
        old = self._processes.pop(name)
        self._start(name, version)
        _end(old)

    def _send(self, name: str, line: str) -> None:
        if name in self._processes:  # the mailer may be killed
            stdin = self._processes[name].stdin
            assert stdin is not None
            stdin.write(f"{line}\n")
            stdin.flush()


def _end(process: "subprocess.Popen[str]") -> None:
    """Close the input of a service, at which it ends."""
    process.communicate()


def _kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


class Visits:
    """Visitors of the storefront at a rate that does not depend on how fast it answers."""

    def __init__(self, storefront: str, spans_per_second: float) -> None:
        self._storefront = storefront
        self._every_s = (SPANS_LOOK * (CHECKOUT_EVERY - 1) + SPANS_BUY) / CHECKOUT_EVERY / spans_per_second
        self._began_s = time.monotonic()
        self._numbers = itertools.count()
        self._random = Random(1)
        self.open = True
        for _ in range(VISITORS):
            threading.Thread(target=self._visit, daemon=True).start()

    def _visit(self) -> None:
        while self.open:
            number = next(self._numbers)
            time.sleep(max(0.0, self._began_s + number * self._every_s - time.monotonic()))
            item, user = self._random.randint(1, 300), self._random.randint(1_000, 9_999)
            buys = number % CHECKOUT_EVERY == 0
            page, method = ("checkout", "POST") if buys else ("product", "GET")
            address = f"{self._storefront}/{page}?id={item}&user={user}"
            with suppress(OSError), urlopen(Request(address, method=method), timeout=30.0) as answer:
                answer.read()


class Control(BaseHTTPRequestHandler):
    """POST /faults/F1/on and /faults/F1/off; GET / says which faults are on."""

    shop: Shop

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        _, *words = self.path.split("/")
        known = len(words) == 3 and words[0] == "faults" and words[1] in FAULTS and words[2] in ("on", "off")
        if known:
            self.shop.switch(words[1], words[2] == "on")
        self._answer(200 if known else 404)

    def log_message(self, *_: object) -> None:
        """Write nothing."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()
        states = {name: {"on": name in self.shop.on, "what": what} for name, what in FAULTS.items()}
        self.wfile.write(json.dumps(states, indent=1).encode() + b"\n")


def main() -> None:
    """Run the shop until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--otlp", default="http://127.0.0.1:4318", help="the Collector's OTLP/HTTP receiver")
    parser.add_argument("--kafka", default="127.0.0.1:9092", help="broker for the orders, which the mailer reads")
    parser.add_argument("--port", type=int, default=8300, help="port of the faults; the services have the next four")
    parser.add_argument("--spans-per-second", type=float, default=200.0, help="of all services, up to 620")
    parser.add_argument(
        "--logs", help="folder for plain log files of catalog (JSON) and orders (text), instead of OTLP"
    )
    parser.add_argument("--acknowledged", help="folder for the ids that the Collector has acknowledged")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    places = {"--otlp": given.otlp, "--kafka": given.kafka, "--first-port": str(given.port + 1)}
    places |= {"--logs": given.logs} if given.logs else {}
    places |= {"--acknowledged": given.acknowledged} if given.acknowledged else {}
    shop = Shop(places)
    visits = Visits(f"http://127.0.0.1:{given.port + 1}", given.spans_per_second)
    Control.shop = shop
    sys.stdout.write(f"shop: open; faults at http://127.0.0.1:{given.port}\n")
    sys.stdout.flush()
    try:
        ThreadingHTTPServer(("127.0.0.1", given.port), Control).serve_forever()
    except KeyboardInterrupt:
        visits.open = False
        shop.close()


if __name__ == "__main__":
    main()
