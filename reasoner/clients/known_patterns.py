"""Log patterns in the tables: template, first occurrence and number of lines."""

from collections import Counter
from typing import Any, Final, NamedTuple

from reasoner.clients import lake as tables
from state_schemas.contracts.settings import Lake

_KEY: Final = ("env", "namespace", "service", "source", "pattern_id")


class KnownPattern(NamedTuple):
    """A pattern of a service.

    - source: logs, or spans; the same pattern may be known from both.
    - lines: in the minutes in which it was among the top patterns of its service.
    - first_seen: ISO 8601, UTC.
    """

    env: str
    namespace: str
    service: str
    source: str
    pattern_id: str
    lines: int
    first_seen: str
    template: str


def known_patterns(lake: Lake, service: str) -> list[KnownPattern]:
    """Return the patterns of a service, or of all if it is "", most lines first.

    Lines of a merged pattern count for the pattern into which it was merged.
    """
    newest: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in tables.read(lake, "pattern_registry").sort_by("at").to_pylist():
        if service in ("", row["service"]):
            newest[tuple(row[field] for field in _KEY)] = row
    lines: Counter[tuple[str, ...]] = Counter()
    fields = (*_KEY, "count")
    for row in tables.read(lake, "error_patterns", row_filter="resolution_s = 60", selected_fields=fields).to_pylist():
        key = tuple(row[field] for field in _KEY)
        while (named := newest.get(key)) and named["alias_of"]:
            key = (*key[:-1], named["alias_of"])
        lines[key] += row["count"]
    found = [
        KnownPattern(
            **dict(zip(_KEY, key, strict=True)),
            lines=lines[key],
            first_seen=row["first_seen"].isoformat(),
            template=row["template"],
        )
        for key, row in newest.items()
        if not row["alias_of"]
    ]
    return sorted(found, key=lambda pattern: (-pattern.lines, pattern))
