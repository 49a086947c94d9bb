"""The rule of `examples/rules` and the recordings beside it."""

import pytest

from reasoner.recordings.read import BadLines
from reasoner.runs.backtest import backtest
from tests.tidy.rules import ROOT

FOLDER = ROOT / "examples" / "rules"
RULE = FOLDER / "paid-not-sent.yaml"


@pytest.mark.parametrize(("recording", "orders"), [("matching", ["A-2"]), ("near-miss", [])])
def test_the_rule_matches_the_order_that_is_not_sent(recording: str, orders: list[str]) -> None:
    bad = BadLines()
    (outcome,) = backtest([FOLDER / recording], RULE, bad)
    assert [match.title.split(": ")[1].split()[-1] for match in outcome.matches] == orders
    assert (bad.dropped, outcome.signals["paid"]) == (0, 2)
