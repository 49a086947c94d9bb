"""Records of the rules topic."""

from state_schemas.aggregates.published_rules import RuleRecord

NOW_MS = 1_700_000_000_000


def text(rule_id: str = "a", version: int = 1, kind: str = "latency_spike", effective: str = "") -> bytes:
    head = f"id: {rule_id}\nversion: {version}\ntitle: t\nby: service\nwithin: 10m\n{effective}"
    steps = f"  - {{name: a, insight: {{kind: {kind}}}}}\n  - {{name: b, insight: {{kind: error_ratio}}}}\n"
    return f"{head}steps:\n{steps}".encode()


def record(offset: int, value: bytes | None, at_ms: int = NOW_MS, key: str = "a") -> RuleRecord:
    return RuleRecord("insight_rules", 0, offset, at_ms, key, value)
