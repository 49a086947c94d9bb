"""An insight and a dead letter with all fields that sinks write."""

from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Evidence, Insight, Window

LETTER = DeadLetter("too_old", "a week", 3, "trace_events", 1, 42, 1_000, 9, "ab" * 32)
INSIGHT = Insight(
    insight_id="1f" * 16,
    revision=3,
    status="closed",
    kind="error_ratio",
    env="prod",
    site_id="site-7",
    service="cart",
    subject="GET /cart",
    window=Window(start_ms=10_000, end_ms=20_000),
    severity="critical",
    confidence=0.75,
    cold_start=True,
    title="cart fails",
    measures={},
    evidence=Evidence(),
)
