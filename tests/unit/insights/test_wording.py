"""Texts of titles: durations and rates without exponents."""

import pytest

from udfs.insights.wording import elapsed, percent, rate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "under 0.01"),
        (0.045, "0.045"),
        (3.1, "3.1"),
        (3.0, "3.0"),
        (9.96, "10"),
        (120.4, "120"),
        (1234.5, "1,234"),
    ],
)
def test_a_rate_has_two_digits_at_least_and_no_exponent(value: float, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(
    ("duration_ms", "text"), [(50_000, "50 s"), (119_000, "119 s"), (300_000, "5 min"), (93_600_000, "26.0 h")]
)
def test_a_time_without_telemetry_has_the_unit_of_its_size(duration_ms: int, text: str) -> None:
    assert elapsed(duration_ms) == text


def test_a_share_is_a_number_of_percent() -> None:
    assert (percent(1.0), percent(0.125, 1)) == ("100 %", "12.5 %")
