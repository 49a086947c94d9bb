"""Signals that a step remembers: which, how many, and how often relations are asked."""

from state_schemas.aggregates.rule_signals import Signal
from state_schemas.state.sequences import StepSignal
from udfs.rules.recent import RECENT_MAX, RecentSignals


def signal(number: int, service: str = "web") -> StepSignal:
    return StepSignal(Signal(number, f"{number}", 0, "span", service, ""), 0, "")


def recent(wanted: int = 3) -> RecentSignals:
    return RecentSignals(wanted, lambda found: found.signal.service, lambda found: found.signal.signal_id)


def times(found: list[StepSignal]) -> list[int]:
    return [one.signal.at_ms for one in found]


def test_the_latest_of_all_related_services_in_their_order() -> None:
    of_step = recent()
    for number in range(12):
        of_step.add(signal(number, "web" if number % 2 else "app"))
    of_step.add(signal(12, "other"))
    assert times(of_step.latest("cart", lambda found: found.signal.service != "other")) == [9, 10, 11]
    assert times(of_step.latest("pay", lambda found: found.signal.service == "app")) == [6, 8, 10]


def test_a_relation_is_asked_once_a_service_however_many_signals_it_has() -> None:
    of_step = recent()
    asked: list[str] = []

    def is_related(found: StepSignal) -> bool:
        asked.append(found.signal.service)
        return True

    for number in range(900):
        of_step.add(signal(number, f"web-{number % 9}"))
        if number >= 8:
            of_step.latest("cart", is_related)
    assert len(asked) == 9


def test_a_service_that_comes_later_counts() -> None:
    of_step = recent()
    of_step.add(signal(1, "web"))
    assert times(of_step.latest("cart", lambda found: True)) == [1]
    of_step.add(signal(2, "app"))
    assert times(of_step.latest("cart", lambda found: True)) == [1, 2]


def test_a_service_that_comes_back_after_its_signals_are_forgotten_counts() -> None:
    of_step = recent()
    of_step.add(signal(1))
    of_step.latest("cart", lambda found: True)
    of_step.forget(2)
    of_step.add(signal(3))
    assert times(of_step.latest("cart", lambda found: True)) == [3]


def test_the_oldest_signals_beyond_the_limit_are_forgotten_and_counted() -> None:
    of_step = recent()
    for number in range(RECENT_MAX + 7):
        of_step.add(signal(number, f"web-{number}"))
    assert [one.signal.at_ms for one in of_step.signals()] == list(range(7, RECENT_MAX + 7))
    assert of_step.given_up == 7
