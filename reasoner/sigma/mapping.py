"""Mapping of Sigma's log sources and fields to fields of log records: `mapping.yaml`, and files that users add."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from jobs.rules import beginning_of
from reasoner.errors import WrongUse
from reasoner.sigma.refused import Refused
from state_schemas.contracts.rules import Condition
from state_schemas.contracts.settings import Section, counted
from udfs.rules.conditions import compile_conditions, field_fault
from udfs.rules.document import RuleFault, read_documents

__all__ = ["FieldMapping", "LogSource", "Source", "read_mapping"]

_SHIPPED: Final = Path(__file__).with_name("mapping.yaml")
_SOURCES_MAX: Final = 500  # of a file
_FIELDS_MAX: Final = 500  # of a log source


class LogSource(NamedTuple):
    """A log source of Sigma; "" stands for any."""

    category: str = ""
    product: str = ""
    service: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._asdict().items() if value) or "any"

    def covers(self, other: "LogSource") -> bool:
        """Return whether records of another source are of this one. A category has fields of its own."""
        is_part = self.product in ("", other.product) and self.service in ("", other.service)
        return self.category == other.category and is_part


class _LogSourceKeys(Section):
    category: str = ""
    product: str = ""
    service: str = ""


class _Entry(Section):
    """What holds for one or several log sources. What is left out is left as another file has it."""

    logsource: Annotated[
        list[_LogSourceKeys],
        BeforeValidator(lambda found: found if isinstance(found, list) else [found]),
        Field(min_length=1, max_length=50),
    ]
    # Conditions that the log records of the source fulfil beside those of a rule.
    where: dict[str, str | bool | int | float | list[str | bool | int | float]] | None = None
    # What rules are by that do not group: service, host, env, attribute:NAME, ...
    by: Annotated[str, StringConstraints(pattern=r"^(service|host|trace|env|attribute:[^\s|]{1,200})$")] | None = None
    # Field in which keywords are looked for, "" for none.
    keywords: str | None = None
    # Field of Sigma -> field of a log record.
    fields: Annotated[dict[str, str], Field(default_factory=dict, max_length=_FIELDS_MAX)]


class _File(Section):
    sources: Annotated[list[_Entry], Field(max_length=_SOURCES_MAX)]


@dataclass(frozen=True)
class Source:
    """A log source with its fields, as one rule needs it."""

    name: LogSource
    where: Condition
    by: str
    keywords: str
    fields: Mapping[str, str]

    def field(self, name: str) -> str:
        """Return the field of a log record. Raises Refused where the mapping has none."""
        found = self.fields.get(name)
        if found is None:
            message = f"the mapping has no field {name!r:.100} for log source {self.name}; add it with --mapping"
            raise Refused(message)
        return found

    def keyword_field(self) -> str:
        """Return the field in which keywords are looked for. Raises Refused where it is not one."""
        if not self.keywords:
            message = (
                f"keywords of log source {self.name} can be in any field of its events, which no condition says;"
                " name a field that has the whole event with --mapping"
            )
            raise Refused(message)
        return self.keywords


@dataclass(frozen=True)
class FieldMapping:
    """The log sources that are known; of those that cover one of a rule, the first that names most of it."""

    sources: Mapping[LogSource, Source]

    def source(self, wanted: LogSource) -> Source:
        """Return the source of a rule. Raises Refused."""
        return self.sources[self._covering(wanted)]

    def widened(self, wanted: LogSource) -> str:
        """Return what a rule looks at beyond its log source, as a sentence; "" for nothing. Raises Refused."""
        found = self._covering(wanted)
        unknown = LogSource(*(asked if asked != known else "" for asked, known in zip(wanted, found, strict=True)))
        return f"looks at all of {found}: the mapping does not know {unknown}" if any(unknown) else ""

    def _covering(self, wanted: LogSource) -> LogSource:
        covering = [name for name in self.sources if name.covers(wanted)]
        if not covering:
            message = f"the mapping has no log source {wanted}; add it with --mapping"
            raise Refused(message)
        return max(covering, key=lambda name: sum(map(bool, name)))


def read_mapping(files: Iterable[Path] = ()) -> FieldMapping:
    """Return the shipped mapping with what files add and override, in their order.

    Raises WrongUse with all faults of a file.
    """
    sources: dict[LogSource, Source] = {}
    for file in (_SHIPPED, *files):
        faults: list[RuleFault] = []
        data = beginning_of(file, faults)
        documents, found = read_documents(str(file), data) if data is not None else ([], [])
        lines = [str(fault) for fault in (*faults, *found)]
        for line, plain in documents:
            lines += [f"{file}:{line}: {text}" for text in _add(sources, plain)]
        if lines:
            text = "\n  ".join(lines)
            message = f"{counted(lines)} in the mapping of Sigma fields, nothing was done:\n  {text}\nsee docs/sigma.md"
            raise WrongUse(message)
    return FieldMapping(sources)


def _add(sources: dict[LogSource, Source], plain: object) -> list[str]:
    """Add the log sources of a document to others; return its faults."""
    try:
        file = _File.model_validate(plain)
    except ValidationError as error:
        return [f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}" for fault in error.errors()]
    faults: list[str] = []
    for entry in file.sources:
        for keys in entry.logsource:
            name = LogSource(keys.category.lower(), keys.product.lower(), keys.service.lower())
            known = sources.get(name, Source(name, {}, "service", "", {}))
            sources[name] = Source(
                name,
                known.where if entry.where is None else dict(entry.where),
                entry.by or known.by,
                known.keywords if entry.keywords is None else entry.keywords,
                {**known.fields, **entry.fields},
            )
        faults += _entry_faults(entry)
    return faults


def _entry_faults(entry: _Entry) -> list[str]:
    named = LogSource(*entry.logsource[0].model_dump().values())
    wanted = [*entry.fields.items(), *([("keywords", entry.keywords)] if entry.keywords else [])]
    faults = [f"{name}: {fault}" for name, field in wanted if (fault := field_fault("log", field))]
    if entry.where:
        faults += [f"where: {fault}" for fault in compile_conditions("log", [dict(entry.where)])[1]]
    return [f"log source {named}: {fault}" for fault in faults]
