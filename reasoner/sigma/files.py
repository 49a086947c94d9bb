"""Files of Sigma rules to sequence rules, and of each Sigma rule what became of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sigma.correlations import SigmaCorrelationRule
from sigma.filters import SigmaFilter
from sigma.rule import SigmaRule

from jobs.rules import beginning_of, rule_files
from reasoner.sigma.correlations import SigmaRules, of_correlation, references
from reasoner.sigma.detections import named_source
from reasoner.sigma.documents import PYSIGMA_ERRORS, VERSION, SigmaDocument, said, sigma_of
from reasoner.sigma.mapping import FieldMapping
from reasoner.sigma.refused import Refused
from reasoner.sigma.rules import Imported, name_of, of_detection
from udfs.rules.document import RuleFault, read_documents

__all__ = ["Outcome", "import_sigma"]

Status = Literal["imported", "refused", "part"]


@dataclass(frozen=True)
class Outcome:
    """What became of a document.

    place: of its file among all. line: from 1, 0 for a whole file. reason: why it is refused, of what it is a part, or
    what an imported rule looks at beyond its log source.
    """

    place: int
    file: str
    line: int
    title: str
    sigma_id: str
    status: Status
    reason: str = ""
    rule: Imported | None = None

    def __str__(self) -> str:
        return str(RuleFault(self.file, self.line, f"{self.title}: {self.reason}" if self.title else self.reason))

    def as_json(self) -> dict[str, Any]:
        """Return the outcome with its rule as JSON."""
        found = {name: value for name, value in vars(self).items() if name != "place"}
        return {**found, "rule": self.rule.document if self.rule else None}


@dataclass(frozen=True)
class _Read:
    place: int
    file: str
    line: int
    sigma: SigmaDocument

    def outcome(self, status: Status, reason: str = "", rule: Imported | None = None) -> Outcome:
        sigma_id = str(self.sigma.id or "")
        return Outcome(self.place, self.file, self.line, self.sigma.title, sigma_id, status, reason, rule)


def import_sigma(paths: Iterable[Path], mapping: FieldMapping) -> list[Outcome]:
    """Import all rules of files and folders, in their order. Never raises for what is in them.

    A rule that a correlation refers to is a part of it and by itself no rule, unless the correlation says `generate`.
    Filters are applied to the rules that they name.
    """
    read, outcomes, unfiltered = _read(paths)
    filters = [found.sigma for found in read if isinstance(found.sigma, SigmaFilter)]
    known: dict[str, SigmaRule | SigmaCorrelationRule] = {}
    kept: list[tuple[_Read, SigmaRule | SigmaCorrelationRule]] = []
    for found in read:
        sigma = found.sigma
        if isinstance(sigma, SigmaFilter):
            outcomes.append(found.outcome("part", "a filter of other rules"))
            continue
        if refused := sorted(_names(sigma) & unfiltered):
            outcomes.append(found.outcome("refused", f"a filter of {refused[0]} is refused"))
            continue
        if taken := sorted(_names(sigma) & known.keys()):
            outcomes.append(found.outcome("refused", f"{taken[0]} is the id or name of a rule before it"))
            continue
        try:
            filtered = _filtered(sigma, filters)
        except PYSIGMA_ERRORS as error:
            outcomes.append(found.outcome("refused", f"a filter cannot be applied: {said(error)}"))
            continue
        known |= dict.fromkeys(_names(sigma), filtered)
        kept.append((found, filtered))
    parts = _parts(sigma for _, sigma in kept)
    for found, sigma in kept:
        correlation = next((parts[name] for name in sorted(_names(sigma)) if name in parts), "")
        outcomes.append(found.outcome("part", correlation) if correlation else _imported(found, sigma, known, mapping))
    return sorted(outcomes, key=lambda outcome: (outcome.place, outcome.line))


def _read(paths: Iterable[Path]) -> tuple[list[_Read], list[Outcome], set[str]]:
    """Return the documents of files that pySigma reads, the others as refused, and which rules those would filter."""
    unfiltered: set[str] = set()
    faults: list[RuleFault] = []
    read: list[_Read] = []
    files = rule_files(paths, faults)
    outcomes: list[Outcome] = []
    for place, file in enumerate(files):
        data = beginning_of(file, faults)
        documents, wrong = read_documents(str(file), data) if data is not None else ([], [])
        outcomes += (Outcome(place, fault.file, fault.line, "", "", "refused", fault.text) for fault in wrong)
        for line, plain in documents:
            try:
                read.append(_Read(place, str(file), line, sigma_of(plain)))
            except Refused as refused:
                unfiltered |= _filtered_by(plain)
                title = str(plain.get("title", ""))[:100] if isinstance(plain, dict) else ""
                sigma_id = str(plain.get("id", ""))[:100] if isinstance(plain, dict) else ""
                outcomes.append(Outcome(place, str(file), line, title, sigma_id, "refused", str(refused)))
    outcomes += (Outcome(len(files), fault.file, 0, "", "", "refused", fault.text) for fault in faults)
    return read, outcomes, unfiltered


def _filtered_by(plain: Any) -> set[str]:
    """Return the rules that a document names as a filter."""
    section = plain.get("filter") if isinstance(plain, dict) else None
    rules = section.get("rules") if isinstance(section, dict) else None
    return set(map(str, rules if isinstance(rules, list) else [rules] if rules else []))


def _names(sigma: SigmaRule | SigmaCorrelationRule) -> set[str]:
    """Return what a rule can be referred to by, and the id of the rule that it becomes."""
    return {name_of(sigma), *(str(name) for name in (sigma.id, sigma.name) if name is not None)}


def _filtered(
    sigma: SigmaRule | SigmaCorrelationRule, filters: Iterable[SigmaFilter]
) -> SigmaRule | SigmaCorrelationRule:
    """Return a rule with the filters that name it, whose version is that of the newest of them all."""
    for of_rules in filters:
        before = _conditions(sigma)
        sigma = of_rules.apply_on_rule(sigma)
        if _conditions(sigma) != before:
            versions = sigma.custom_attributes[VERSION], of_rules.custom_attributes[VERSION]
            sigma.custom_attributes[VERSION] = max(versions)
    return sigma


def _conditions(sigma: SigmaRule | SigmaCorrelationRule) -> list[str]:
    return list(sigma.detection.condition) if isinstance(sigma, SigmaRule) else []


def _parts(rules: Iterable[SigmaRule | SigmaCorrelationRule]) -> dict[str, str]:
    """Return for each id or name that a correlation refers to, without `generate`, which correlation that is."""
    found: dict[str, str] = {}
    for rule in rules:
        if isinstance(rule, SigmaCorrelationRule) and not rule.generate:
            for name in references(rule):
                found.setdefault(name, f"part of the correlation {rule.title}")
    return found


def _imported(
    found: _Read, sigma: SigmaRule | SigmaCorrelationRule, known: SigmaRules, mapping: FieldMapping
) -> Outcome:
    try:
        if isinstance(sigma, SigmaCorrelationRule):
            return found.outcome("imported", rule=of_correlation(sigma, known, mapping))
        rule = of_detection(sigma, mapping)
        return found.outcome("imported", mapping.widened(named_source(sigma)), rule)
    except Refused as refused:
        return found.outcome("refused", str(refused))
    except PYSIGMA_ERRORS as error:
        return found.outcome("refused", said(error))
