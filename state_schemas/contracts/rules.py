"""Sequence rules: the contract of rule files and of the topic `insight_rules`. It only ever grows.

A rule names steps that happen in an order, to the same service, host, operation, trace or environment. `docs/rules.md`
is its grammar with an example of each construct.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from state_schemas.contracts.insight import Severity
from state_schemas.contracts.settings import Section

STEPS_MAX: Final = 10
PARTS_MAX: Final = 20  # alternatives of a step, or its parts in any order
CONDITIONS_MAX: Final = 20  # conditions of a part, fields of a condition, and values of a field
VALUE_CHARS_MAX: Final = 2_000
NUMBER_MAX: Final = 10**15  # larger ones are not exact as floats
COUNT_MAX: Final = 1_000  # signals that one step may count
WITHIN_MS_MAX: Final = 24 * 3_600_000  # a partial match is kept for so long
TIME_MS_END: Final = 9_214_646_400_000  # year 2262: event times of telemetry are ns in 64 bits, which end in April
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 24 * 3_600_000}
_DURATION: Final = r"^[1-9][0-9]{0,8}[smhd]$"
_COUNT: Final = r"^>= ?[1-9][0-9]{0,3}$"


def _milliseconds(found: Any) -> int:
    """Parse a duration such as `5m`. Raises ValueError, which pydantic reports with its place."""
    number, unit = (found[:-1], _UNITS_MS.get(found[-1:])) if isinstance(found, str) else ("", None)
    if unit is None or not (number.isascii() and number.isdigit() and int(number[:9]) > 0):
        message = "expected a whole number with s, m, h or d, such as 5m"
        raise ValueError(message)
    value = int(number[:9]) * unit
    if len(number) > 9 or value > WITHIN_MS_MAX:
        message = "expected at most 24h: partial matches are kept for so long"
        raise ValueError(message)
    return value


def _duration(value_ms: int) -> str:
    """Write a duration, as the contract has it."""
    return next(f"{value_ms // unit}{name}" for name, unit in reversed(_UNITS_MS.items()) if value_ms % unit == 0)


def _least(found: Any) -> int:
    """Parse a count such as `>= 5`. Raises ValueError."""
    number = found.removeprefix(">=").strip() if isinstance(found, str) and found.startswith(">=") else ""
    if not (number.isascii() and number.isdigit() and len(number) < 5 and 1 < int(number) <= COUNT_MAX):
        message = f"expected '>= N' with N from 2 to {COUNT_MAX}"
        raise ValueError(message)
    return int(number)


def _in_time(at: datetime) -> datetime:
    """Check that telemetry can have this event time. Raises ValueError."""
    if not 0 <= _epoch_ms(at) < TIME_MS_END:
        message = f"found {at.isoformat()}, expected a time from 1970 to 2261"
        raise ValueError(message)
    return at


Duration = Annotated[
    int,
    BeforeValidator(_milliseconds),
    PlainSerializer(_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION, "examples": ["5m"]}),
]
Count = Annotated[
    int,
    BeforeValidator(_least),
    PlainSerializer(lambda count: f">= {count}"),
    WithJsonSchema({"type": "string", "pattern": _COUNT, "examples": [">= 5"]}),
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=400)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,79}$")]
# An earlier step: `$` and its number from 1, or its name.
Reference = Annotated[str, StringConstraints(pattern=r"^\$([1-9][0-9]?|[a-z][a-z0-9-]{0,79})$")]
Scalar = str | bool | int | float
Values = Scalar | list[Scalar]
# `field` or `field|modifier` -> value: all fields must hold, and of a list of values one.
Condition = dict[str, Values]


def _conditions(found: Any) -> list[Condition]:
    """Check conditions, and return them as a list. Raises ValueError with the first fault."""
    listed = found if isinstance(found, list) else [found]
    if not 0 < len(listed) <= CONDITIONS_MAX:
        message = f"found {len(listed)} conditions, expected 1 to {CONDITIONS_MAX}"
        raise ValueError(message)
    for condition in listed:
        if not isinstance(condition, dict) or not 0 < len(condition) <= CONDITIONS_MAX:
            message = (
                f"found {shown(condition)}, expected a map of 1 to {CONDITIONS_MAX} fields, or a list of such maps"
            )
            raise ValueError(message)
        for field, values in condition.items():
            _check_values(field, values)
    return listed


def _check_values(field: Any, values: Any) -> None:
    listed = values if isinstance(values, list) else [values]
    if not isinstance(field, str) or not 0 < len(listed) <= CONDITIONS_MAX:
        message = f"{field}: found {len(listed)} values, expected 1 to {CONDITIONS_MAX}"
        raise ValueError(message)
    for value in listed:
        if not _is_scalar(value):
            message = (
                f"{field}: found {shown(value)}, expected text of at most {VALUE_CHARS_MAX} characters or a number"
            )
            raise ValueError(message)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= VALUE_CHARS_MAX
    return isinstance(value, bool) or (isinstance(value, int | float) and -NUMBER_MAX < value < NUMBER_MAX)


def shown(value: Any) -> str:
    """Return a value as a message shows it: short, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= NUMBER_MAX:
        return "a huge number"  # Python refuses to write some of them
    return f"{value!r:.60}"


_SCALAR_SCHEMA: Final = {"type": ["string", "number", "boolean"]}
_CONDITION_SCHEMA: Final = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": CONDITIONS_MAX,
    "additionalProperties": {
        "anyOf": [_SCALAR_SCHEMA, {"type": "array", "items": _SCALAR_SCHEMA, "maxItems": CONDITIONS_MAX}]
    },
}
# Of several conditions one must hold.
Conditions = Annotated[
    list[Condition],
    BeforeValidator(_conditions),
    WithJsonSchema({"anyOf": [_CONDITION_SCHEMA, {"type": "array", "items": _CONDITION_SCHEMA}]}),
]
SourceName = Literal["insight", "span", "log"]
SOURCES: Final[tuple[SourceName, ...]] = ("insight", "span", "log")
RelationName = Literal["calls", "called_by", "same_host"]
RELATIONS: Final[tuple[RelationName, ...]] = ("calls", "called_by", "same_host")


class Part(Section):
    """What one signal must be: exactly one of the sources, with its conditions."""

    # An insight, at its first `open`: kind, service, subject, ...
    insight: Conditions | None = None
    # A span: service, name, kind, status, duration_ms, ...
    span: Conditions | None = None
    # A log record: service, severity, body, pattern, template, attributes.NAME, ...
    log: Conditions | None = None

    @property
    def source(self) -> SourceName:
        return next(name for name in SOURCES if getattr(self, name) is not None)

    @property
    def conditions(self) -> list[Condition]:
        """Return the conditions of which one must hold."""
        found: list[Condition] = getattr(self, self.source)
        return found

    def _sources(self) -> list[str]:
        return [name for name in SOURCES if getattr(self, name) is not None]


class Alternative(Part):
    """A part of `any_of` or `all_of`."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if len(self._sources()) != 1:
            message = f"found {_named(self._sources())}, expected one of {', '.join(SOURCES)}"
            raise ValueError(message)
        return self


Parts = Annotated[list[Alternative], Field(min_length=2, max_length=PARTS_MAX)]


class RuleStep(Part):
    """One step of a sequence: a source with conditions, or `any_of` or `all_of` several of them."""

    # Name in the timeline of a match.
    name: Name
    # One of these.
    any_of: Parts | None = None
    # Each of these, in any order.
    all_of: Parts | None = None
    # Longest time since the step before; for a step that counts or comes first, also that of its own signals.
    within: Duration | None = None
    # The step must not come for so long after the step before.
    not_within: Duration | None = None
    # Whether a match can do without the step.
    optional: bool = False
    # Least number of signals of the step.
    count: Count | None = None
    # Field of which the counted signals must have distinct values.
    distinct: Text | None = None
    # Relations to an earlier step: its service is called by that of this step, calls it, or both are on one host.
    calls: Reference | None = None
    called_by: Reference | None = None
    same_host: Reference | None = None

    @property
    def relations(self) -> dict[RelationName, str]:
        """Return the references to earlier steps."""
        return {name: reference for name in RELATIONS if (reference := getattr(self, name))}

    @property
    def parts(self) -> list[Part]:
        """Return the parts of the step: of `all_of` all must come, otherwise one."""
        several: list[Alternative] = self.all_of or self.any_of or []
        return [*several] if several else [self]

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        found = [*self._sources(), *(name for name in ("any_of", "all_of") if getattr(self, name))]
        if len(found) != 1:
            message = f"found {_named(found)}, expected one of {', '.join(SOURCES)}, any_of, all_of"
            raise ValueError(message)
        faults = [
            ("within and not_within", "one of them", self.within and self.not_within),
            (
                "not_within and optional",
                "one of them: what must not come is not optional",
                self._is_absent_and_optional,
            ),
            (
                "not_within and count",
                "a step without count: what must not come must not come once",
                self._counts_absent,
            ),
            ("count and all_of", "one of them", self.count and self.all_of),
            ("distinct without count", "count: '>= N' beside it", self.distinct and not self.count),
        ]
        for clash, expected, is_found in faults:
            if is_found:
                message = f"found {clash}, expected {expected}"
                raise ValueError(message)
        return self

    @property
    def _is_absent_and_optional(self) -> bool:
        return bool(self.not_within and self.optional)

    @property
    def _counts_absent(self) -> bool:
        return bool(self.not_within and (self.count or self.all_of))


class Rule(Section):
    """A sequence rule, one version of it. Steps come in their order in event time."""

    # Stays the same over versions; part of the id of a match.
    id: Name
    # Grows with each change; partial matches go on under the version with which they began. A day is one: 20260131.
    version: Annotated[int, Field(ge=1, le=99_999_999)]
    # Title of a match behind the name of its service.
    title: Text
    # What all steps have in common: service, host, operation, trace, env, or attribute:NAME.
    by: Annotated[str, StringConstraints(pattern=r"^(service|host|operation|trace|env|attribute:[^\s|]{1,200})$")]
    # Longest time from the first step to the last.
    within: Duration
    steps: Annotated[list[RuleStep], Field(min_length=1, max_length=STEPS_MAX)]
    severity: Severity = "warning"
    # Milliseconds after the last match in which a further one counts in the same insight.
    suppress_ms: Annotated[int, Field(ge=0, le=WITHIN_MS_MAX)] = 600_000
    # Event time from which this version holds; without one from the beginning of a recording, or as `publish` sets it.
    effective_from: Annotated[AwareDatetime, AfterValidator(_in_time)] | None = None
    # What to do when it fires.
    description: Annotated[str, StringConstraints(max_length=4_000)] = ""

    @property
    def effective_ms(self) -> int:
        """Return the event time from which this version holds, epoch ms; 0 for the beginning of time."""
        return 0 if self.effective_from is None else _epoch_ms(self.effective_from)

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        faults = [*_order_faults(self.steps), *_name_faults(self.steps)]
        faults += [
            f"step {step.name}: within is {step.within} ms, expected at most that of the rule, {self.within} ms"
            for step in self.steps
            if (step.within or 0) > self.within
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def rule_schema() -> dict[str, Any]:
    """Return the JSON Schema of a rule, for editors."""
    return Rule.model_json_schema()


def _order_faults(steps: list[RuleStep]) -> list[str]:
    first, last = steps[0], steps[-1]
    faults = []
    if first.optional or first.not_within:
        faults.append(f"step {first.name}: found optional or not_within, expected a first step that must come")
    if last.optional:
        faults.append(f"step {last.name}: found optional, expected a last step that must come")
    faults += [
        f"step {after.name}: found not_within behind not_within, expected a step that comes between them"
        for before, after in pairwise(steps)
        if before.not_within and after.not_within
    ]
    faults += [
        f"step {step.name}: found optional beside not_within, expected steps that must come around it"
        for absent, step in (*pairwise(steps), *((after, before) for before, after in pairwise(steps)))
        if absent.not_within and step.optional
    ]
    return faults


def _name_faults(steps: list[RuleStep]) -> list[str]:
    names = [step.name for step in steps]
    twice = sorted({name for name in names if names.count(name) > 1})
    return [f"two steps are named {name}, expected a name of its own for each" for name in twice]


def _named(found: list[str]) -> str:
    return " and ".join(found) if found else "no source"


def _epoch_ms(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
