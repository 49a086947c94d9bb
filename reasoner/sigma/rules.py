"""A Sigma rule to the YAML document of a sequence rule."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import yaml
from sigma.rule import SigmaLevel, SigmaRule, SigmaRuleBase

from reasoner.sigma.alternatives import Alternatives, written
from reasoner.sigma.detections import alternatives_of, source_of
from reasoner.sigma.documents import DIGEST, VERSION
from reasoner.sigma.mapping import FieldMapping
from reasoner.sigma.refused import Refused
from state_schemas.contracts.rules import Condition
from udfs.rules.compiled import compile_rules
from udfs.rules.document import read_rules

__all__ = ["Imported", "document", "name_of", "of_detection", "sourced", "step_name"]

_SEVERITIES: Final = {
    SigmaLevel.INFORMATIONAL: "info",
    SigmaLevel.LOW: "info",
    SigmaLevel.MEDIUM: "warning",
    SigmaLevel.HIGH: "critical",
    SigmaLevel.CRITICAL: "critical",
}
_DESCRIPTION_CHARS_MAX: Final = 4_000
_STEP_CHARS_MAX: Final = 40
_WITHIN: Final = "1m"  # of a rule of one record, which no time bounds


class Imported(NamedTuple):
    """A sequence rule: the map of its document, and its text, in which `reasoner rules check` finds no fault."""

    document: dict[str, Any]
    text: str


def of_detection(rule: SigmaRule, mapping: FieldMapping) -> Imported:
    """Return a rule of one step, each record of which is a match. Raises Refused, and the errors of pySigma."""
    source = source_of(rule, mapping)
    steps = [{"name": step_name(rule), **sourced(alternatives_of(rule, source))}]
    return document(rule, source.by, _WITHIN, steps)


def sourced(alternatives: Alternatives) -> dict[str, Condition | list[Condition]]:
    """Return the part of a step that log records of these alternatives fulfil. Raises Refused."""
    found = written(alternatives)
    return {"log": found[0] if len(found) == 1 else found}


def document(
    sigma: SigmaRuleBase, by: str, within: str, steps: Sequence[dict[str, Any]], parts: Iterable[SigmaRuleBase] = ()
) -> Imported:
    """Return the sequence rule of a Sigma rule. Raises Refused where it breaks a limit of rules.

    parts: the rules of which it consists; its version is that of the newest.
    """
    version = max(rule.custom_attributes[VERSION] for rule in (sigma, *parts))
    found: dict[str, Any] = {"id": name_of(sigma), "version": version, "title": sigma.title, "by": by, "within": within}
    if sigma.level:
        found["severity"] = _SEVERITIES[sigma.level]
    found |= {"steps": list(steps), "description": _description(sigma)}
    text = yaml.dump(found, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    read = read_rules("", text.encode())
    faults = [fault.text for fault in read.faults] or [fault.text for fault in compile_rules(read.rules)[1]]
    if faults:
        raise Refused("; ".join(faults))
    return Imported(found, text)


class _Plain(yaml.SafeDumper):
    """Writes no anchors, which rule files must not have, and text of several lines as it is."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Plain.add_representer(str, _Plain.represent_str)


def name_of(sigma: SigmaRuleBase) -> str:
    """Return the id of the rule that is made of a Sigma rule: of its id, or without one of all that it says."""
    return f"sigma-{sigma.id or sigma.custom_attributes[DIGEST]}"


def step_name(sigma: SigmaRuleBase) -> str:
    """Return a name for a step that a Sigma rule is, made of its name or title."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in (sigma.name or sigma.title)).split()
    found = "-".join(words).lower().lstrip("-0123456789")[:_STEP_CHARS_MAX].rstrip("-")
    return found or "event"


def _description(sigma: SigmaRuleBase) -> str:
    """Return what is known of the rule, with its author, whom the licences of public rules want to be named."""
    level = sigma.level.name.lower() if sigma.level else "none"
    lines = [f"Sigma rule {sigma.id or 'without an id'}: {sigma.title} (level {level})"]
    lines += [f"Author: {sigma.author}"] if sigma.author else []
    lines += [f"License: {sigma.license}"] if sigma.license else []
    lines += [sigma.description.strip()] if sigma.description else []
    if isinstance(sigma, SigmaRule) and sigma.logsource.definition:
        lines.append(f"Log source: {sigma.logsource.definition}")
    named = {"False positives": sigma.falsepositives, "References": sigma.references}
    lines += [f"{name}: {', '.join(map(str, listed))}" for name, listed in named.items() if listed]
    text = "\n".join(lines)
    return text if len(text) <= _DESCRIPTION_CHARS_MAX else f"{text[: _DESCRIPTION_CHARS_MAX - 1]}…"
