"""Prometheus' HTTP API as far as the tests need it."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from reasoner.stack.loopback import answer_of


@dataclass(frozen=True)
class PrometheusApi:
    """A running Prometheus."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query, each with its labels (`metric`) and its `value`."""
        answer = self._get(f"/api/v1/query?query={quote(expression)}")
        return list(answer["result"])

    def value(self, expression: str) -> float | None:
        """Return the largest value of an instant query; None where it has no series."""
        return max((float(series["value"][1]) for series in self.query(expression)), default=None)

    def names(self) -> set[str]:
        """Return the names of all metrics."""
        return set(self._get("/api/v1/label/__name__/values"))

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self._alerts() if alert["state"] == "firing"}

    def raised(self) -> set[str]:
        """Return the names of the alerts that fire, or will if their condition holds on."""
        return {alert["labels"]["alertname"] for alert in self._alerts()}

    def healthy_targets(self) -> dict[str, int]:
        """Return the number of targets that were scraped, by job."""
        found: dict[str, int] = {}
        for target in self._get("/api/v1/targets?state=active")["activeTargets"]:
            found[target["labels"]["job"]] = found.get(target["labels"]["job"], 0) + (target["health"] == "up")
        return found

    def _alerts(self) -> list[dict[str, Any]]:
        return list(self._get("/api/v1/alerts")["alerts"])

    def _get(self, path: str) -> Any:
        with answer_of(f"{self.url}{path}", 20.0) as answer:
            return json.load(answer)["data"]
