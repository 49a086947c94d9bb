"""Loki with the file of `deploy`, on loopback and in a temporary folder, and what it answers."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from reasoner.stack.component import Component
from reasoner.stack.loopback import answer_of
from reasoner.stack.settings import LOOPBACK
from tests.support.parts import LOKI
from tests.tidy.rules import ROOT

CONFIG: Final = ROOT / "deploy" / "observability" / "loki.yaml"
_VOLUME: Final = "/loki"  # of docker-compose.yml


@dataclass(frozen=True)
class Loki:
    """One Loki; all of its data is in `folder`/data, and it is started in `folder`/empty."""

    folder: Path
    http_port: int
    grpc_port: int

    def component(self) -> Component:
        """Return it with the file as it is, but for the place of the volume and the addresses."""
        places = [
            *(f"-server.http-listen-address={LOOPBACK}", f"-server.http-listen-port={self.http_port}"),
            *(f"-server.grpc-listen-address={LOOPBACK}", f"-server.grpc-listen-port={self.grpc_port}"),
        ]
        words = ["env", f"--chdir={self.folder}/empty", str(LOKI), f"-config.file={self.folder}/loki.yaml", *places]
        return Component(
            name="loki",
            folder=self.folder,
            prepare=self._prepare,
            command=lambda: words,
            not_ready_because=self._not_ready_because,
            ready_deadline_s=90.0,
        )

    def lines(self, query: str, hours: int = 1) -> list[str]:
        """Return the lines of the last hours that a query finds."""
        now_s = time.time()
        found = self._get("query_range", query=query, start=now_s - hours * 3_600, end=now_s + 60, limit=5_000)
        return [line for stream in found["result"] for _, line in stream["values"]]

    def streams(self) -> list[dict[str, str]]:
        """Return the index labels of each stream."""
        found: list[dict[str, str]] = self._get("series", **{"match[]": '{service_name=~".+"}'})
        return found

    def labels(self) -> set[str]:
        """Return the names of all index labels, without Loki's own, by which it divides a stream with many lines."""
        return {name for name in self._get("labels") if not name.startswith("__")}

    def _prepare(self) -> None:
        (self.folder / "empty").mkdir(parents=True, exist_ok=True)
        (self.folder / "loki.yaml").write_text(CONFIG.read_text().replace(_VOLUME, f"{self.folder}/data"))

    def _not_ready_because(self) -> str | None:
        try:
            answer_of(f"http://{LOOPBACK}:{self.http_port}/ready", 3.0).close()
        except OSError as error:
            return f"{error}"
        return None

    def _get(self, what: str, **parameters: Any) -> Any:
        address = f"http://{LOOPBACK}:{self.http_port}/loki/api/v1/{what}?{urlencode(parameters)}"
        with answer_of(address, 30.0) as answer:
            return json.load(answer)["data"]
