"""Durations of options."""

import pytest

from reasoner.durations import duration_ms
from reasoner.errors import WrongUse


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("30m", 1_800_000), ("12h", 43_200_000), ("2d", 172_800_000)]
)
def test_a_duration_is_a_number_with_a_unit(text: str, ms: int) -> None:
    assert duration_ms("--since", text) == ms


@pytest.mark.parametrize("text", ["", "m", "5", "5 m", "-5m", "1.5h", "٣m", "5w", "9" * 5_000 + "h"])
def test_anything_else_is_refused_with_the_option(text: str) -> None:
    with pytest.raises(WrongUse, match="--keep-sources is"):
        duration_ms("--keep-sources", text)
