"""What the matcher knows of a rule: its steps in order, and how long each waits for the next."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from state_schemas.state.sequences import PartialMatch, RuleProgress, StepSignal
from udfs.rules.relations import Relation

__all__ = ["SequencePlan", "StepPlan"]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What the matcher knows of a step."""

    # Longest time since the step before, ms.
    within_ms: int
    # How long the step must not come; 0 for a step that must.
    absent_ms: int = 0
    optional: bool = False
    # Least number of signals, or of their distinct values.
    count: int = 1
    distinct: bool = False
    # Number of parts that must all come; 1 where one is enough.
    parts: int = 1
    # All of them must hold, for each signal of the step.
    relations: tuple[Relation, ...] = ()

    @property
    def wanted(self) -> int:
        """Return how many signals the step takes together."""
        return max(self.parts, self.count)

    def bound_of(self, found: StepSignal) -> object:
        """Return all of a signal on which the relations of the step depend."""
        return tuple(relation.bound(found.signal) for relation in self.relations)

    def slot_of(self, found: StepSignal) -> object:
        """Return what a signal is counted by: its part, its value or itself."""
        if self.parts > 1:
            return found.part
        return found.value if self.distinct else found.signal.signal_id


@dataclass(frozen=True)
class SequencePlan:
    """What the matcher knows of a rule."""

    steps: tuple[StepPlan, ...]
    within_ms: int

    @cached_property
    def relations_after(self) -> tuple[tuple[Relation, ...], ...]:
        """By step: the relations that steps behind it have to it, or to one before it."""
        return tuple(
            tuple(
                relation
                for later in self.steps[number + 1 :]
                for relation in later.relations
                if relation.step <= number
            )
            for number in range(len(self.steps))
        )

    def story(self, match: PartialMatch) -> str:
        """Return what distinguishes first steps of one time: their service, in a rule with relations."""
        return match.fulfilled[0].signal.service if any(self.relations_after) else ""

    @property
    def absence_ms(self) -> int:
        """Return how long the last step must not come; 0 for a rule whose last step must."""
        return self.steps[-1].absent_ms

    @cached_property
    def before(self) -> tuple[tuple[int, ...], ...]:
        """By step: those that can come directly before it; optional and absent ones between are left out."""
        return tuple(tuple(self._before(step)) for step in range(len(self.steps)))

    def _before(self, step: int) -> Iterator[int]:
        for earlier in range(step - 1, -1, -1):
            if not self.steps[earlier].absent_ms:
                yield earlier
            if not (self.steps[earlier].optional or self.steps[earlier].absent_ms):
                break

    def concludes(self, step: int) -> bool:
        """Return whether a partial match that ends with this step is complete if the last step does not come."""
        return self.absence_ms > 0 and step == len(self.steps) - 2

    @cached_property
    def reach_ms(self) -> tuple[int, ...]:
        """By step: how long a partial match that ends with it can wait for the next one."""
        return tuple(max((step.absent_ms or step.within_ms for step in after), default=0) for after in self._after)

    @cached_property
    def outlives(self) -> tuple[bool, ...]:
        """By step: whether of two partial matches that end with it, one that ends and begins later is enough."""
        return tuple(all(step.wanted == 1 and not step.absent_ms for step in after) for after in self._after)

    @cached_property
    def _after(self) -> tuple[tuple[StepPlan, ...], ...]:
        places = range(len(self.steps))
        return tuple(tuple(self.steps[later] for later in places if step in self.before[later]) for step in places)

    @cached_property
    def begin(self) -> RuleProgress:
        """Return the progress of the rule before its first signal."""
        empty: tuple[()] = ()
        return RuleProgress(partial=(empty,) * len(self.steps), recent=(empty,) * len(self.steps))
