"""The machine of the new user in the trial: a clone with its stack, the Collector and the shop, on free ports."""

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Final
from urllib.request import Request

from jobs.settings import load
from reasoner.clients.flink_rest import FlinkRest
from reasoner.stack.loopback import answer_of
from reasoner.stack.settings import StackSettings, is_port_free
from reasoner.waiting import wait_until
from tests.faults.conftest import setting
from tests.faults.trial_shell import Shell, environment_of
from tests.services.job_runs import ClusterJob
from tests.support.parts import OTELCOL, SHOP_PYTHON
from tests.support.readme import collector_block
from tests.tidy.rules import ROOT

SPANS_PER_SECOND: Final = 620
# Fault of the shop -> seconds for which it lasts, in the order in which they are played, and the pause after each. A
# service without telemetry is missed after 14 windows of 10 s.
LASTS_S: Final = {"F1": 90.0, "F2": 90.0, "F3": 200.0, "F4": 150.0, "F5": 120.0}
PAUSE_S: Final = 40.0


class Machine:
    """Ports, folders and programs. Nothing is started before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._ports = StackSettings().with_auto_ports().resolved()
        self.folder, self.clone = folder, folder / "clone"
        self.rest, self.kafka = FlinkRest(self._ports.flink_rest_url), self._ports.kafka_bootstrap
        names = ("kafka_port", "kafka_controller_port", "postgres_port", "flink_rest_port", "flink_rpc_port")
        given = {name: getattr(self._ports, name) for name in names}
        self.shell = Shell(self.clone, environment_of(self.clone / ".venv" / "bin", folder / "state", given))
        self.load: dict[str, float] = {}  # at the end of each fault: processes that run or wait for a core, of 1 min
        self._otlp_port = _free_row(2 + 5)
        self._shop_port = self._otlp_port + 2
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.clone)], check=True)

    def here(self, text: str) -> str:
        """Return a block of README with the ports of this machine."""
        return (
            text.replace("127.0.0.1:5433", f"127.0.0.1:{self._ports.postgres_port}")
            .replace("http://127.0.0.1:8081", self.rest.url)
            .replace("127.0.0.1:9092", self.kafka)
            .replace("lake:\n", f"kafka: {{bootstrap_servers: '{self.kafka}'}}\nlake:\n")
        )

    def job(self) -> ClusterJob:
        """Return the one job that runs."""
        (job_id,) = [job.job_id for job in self.rest.overview() if job.is_active]
        return ClusterJob(load(self.clone / "job.yaml"), self.rest, self.folder, job_id=job_id)

    def with_collector(self, stack: ExitStack) -> None:
        """Run the Collector until the stack ends, with the file of deploy/collector and README's block over it."""
        block = self.folder / "readme.yaml"
        block.write_text(self.here(collector_block()))
        places = [
            ROOT / "deploy" / "collector" / "collector.yaml",
            block,
            f"yaml:receivers::otlp::protocols::grpc::endpoint: 127.0.0.1:{self._otlp_port}",
            f"yaml:receivers::otlp::protocols::http::endpoint: 127.0.0.1:{self._otlp_port + 1}",
            "yaml:service::telemetry::metrics::level: none",
        ]
        words = [str(OTELCOL), *(f"--config={place}" for place in places)]
        stack.enter_context(self.shell.beside(words, self.folder / "collector.log", signal.SIGTERM))
        wait_until(lambda: not is_port_free(self._otlp_port + 1), "the Collector receives", 60.0)

    def with_shop(self, stack: ExitStack) -> float:
        """Run the shop until the stack ends; return when it opens, epoch s."""
        given = {
            "--otlp": f"http://127.0.0.1:{self._otlp_port + 1}",
            "--kafka": self.kafka,
            "--port": self._shop_port,
            "--spans-per-second": setting("TRIAL_SPANS_PER_SECOND", SPANS_PER_SECOND),
        }
        options = [str(word) for pair in given.items() for word in pair]
        log = self.folder / "shop.log"
        words = [str(SHOP_PYTHON), "-m", "examples.own_services.shop", *options]
        stack.enter_context(self.shell.beside(words, log, signal.SIGTERM))
        wait_until(lambda: "open" in log.read_text(), f"the shop is open; see {log}", 60.0)
        return time.time()

    def play(self, fault: str) -> float:
        """Play a fault and the pause after it; return when it began, epoch s."""
        began_s = self._switch(fault, "on")
        wait_until_s(began_s + LASTS_S[fault])
        self.load[fault] = round(os.getloadavg()[0], 1)
        wait_until_s(self._switch(fault, "off") + PAUSE_S)
        return began_s

    def _switch(self, fault: str, to: str) -> float:
        address = f"http://127.0.0.1:{self._shop_port}/faults/{fault}/{to}"
        answer_of(Request(address, method="POST"), 60.0).close()
        return time.time()


def wait_until_s(at_s: float) -> None:
    """Wait for a time of the schedule, epoch s."""
    wait_until(lambda: time.time() >= at_s, "a time of the schedule", max(0.0, at_s - time.time()) + 5.0)


def _free_row(length: int) -> int:
    """Return a port that is free, as those after it are."""
    return next(port for port in count(24_000, 10) if all(is_port_free(port + offset) for offset in range(length)))
