"""Signals that a step remembers because it takes several: of those with the same relations the latest ones."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import merge
from typing import Final

from state_schemas.state.sequences import StepSignal

__all__ = ["RecentSignals"]

RECENT_MAX: Final = 1_000  # signals of a step, whatever they relate to
Slots = OrderedDict[object, StepSignal]


@dataclass(slots=True)
class RecentSignals:
    """Signals of a step in their order, of each bound and slot the latest, of each bound as many as the step takes.

    bound_of: all of a signal on which the relations of the step depend. slot_of: what it is counted by.
    """

    wanted: int
    bound_of: Callable[[StepSignal], object]
    slot_of: Callable[[StepSignal], object]
    given_up: int = 0
    _all: OrderedDict[tuple[object, object], StepSignal] = field(default_factory=OrderedDict)
    _by_bound: dict[object, Slots] = field(default_factory=dict)
    # By what an earlier step binds: the groups whose signals are related to it.
    _related: dict[object, list[Slots]] = field(default_factory=dict)

    def signals(self) -> tuple[StepSignal, ...]:
        return tuple(self._all.values())

    def add(self, found: StepSignal) -> None:
        """Add a signal behind all others; the oldest beyond RECENT_MAX is forgotten. O(1)."""
        bound, slot = self.bound_of(found), self.slot_of(found)
        group = self._by_bound.get(bound)
        if group is None:
            group = self._by_bound[bound] = OrderedDict()
            self._related.clear()
        if group.pop(slot, None) is not None:
            del self._all[bound, slot]
        elif len(group) == self.wanted:
            oldest, _ = group.popitem(last=False)
            del self._all[bound, oldest]
        group[slot] = self._all[bound, slot] = found
        if len(self._all) > RECENT_MAX:
            self._forget_oldest()
            self.given_up += 1

    def latest(self, earlier: object, is_related: Callable[[StepSignal], bool]) -> list[StepSignal]:
        """Return the latest signals, of each slot one, that are related to an earlier step; at most as many as wanted.

        earlier: what that step binds. is_related must be a function of it and of the bound of a signal. O(bounds) for a
        new `earlier`, then O(related bounds + wanted).
        """
        groups = self._related.get(earlier)
        if groups is None:
            groups = [group for group in self._by_bound.values() if is_related(next(iter(group.values())))]
            self._related[earlier] = groups
        slots: dict[object, StepSignal] = {}
        for found in merge(*(reversed(group.values()) for group in groups), key=_order, reverse=True):
            slots.setdefault(self.slot_of(found), found)
            if len(slots) == self.wanted:
                break
        return list(slots.values())[::-1]

    def forget(self, before_ms: int) -> None:
        """Forget the signals before an event time."""
        while self._all and next(iter(self._all.values())).signal.at_ms < before_ms:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        (bound, slot), _ = self._all.popitem(last=False)
        del self._by_bound[bound][slot]
        if not self._by_bound[bound]:
            del self._by_bound[bound]
            self._related.clear()


def _order(found: StepSignal) -> tuple[int, str, int]:
    return found.signal.at_ms, found.signal.signal_id, found.part
