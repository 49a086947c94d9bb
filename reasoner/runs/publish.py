"""Publication of sequence rules: what the rules topic needs so that a running job has the rules of files."""

import time
from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from jobs.rules import read_rule_files
from reasoner.clients.rules_topic import read_rule_records, send_rule_records
from reasoner.clients.topic_samples import newest_timestamp_ms
from reasoner.clients.topics import source_names
from reasoner.errors import CommandFailed
from state_schemas.aggregates.published_rules import FOREVER_MS, PublishedRule, RuleRecord, RuleVersion
from state_schemas.contracts.rules import TIME_MS_END, Rule
from state_schemas.contracts.settings import Kafka, counted
from udfs.rules.compiled import text_of
from udfs.rules.publishing import publish, published_rules, put


class Planned(NamedTuple):
    """What is sent of one rule, and said about it.

    text: None removes the rule. is_there: whether nothing needs to be sent. fault: why nothing can be.
    """

    rule_id: str
    text: bytes | None = None
    said: str = ""
    is_there: bool = False
    fault: str = ""


class Times(NamedTuple):
    """Times of a publication, epoch ms. newest_ms: of the newest event, and no earlier than now."""

    now_ms: int
    newest_ms: int
    ahead_ms: int


def publication(
    records: Iterable[RuleRecord], rules: Sequence[Rule], times: Times, of_files: Container[str] = ()
) -> list[Planned]:
    """Plan the publication of rules, in the order of their versions; the job will judge it in the same way.

    of_files: ids of the rules that the job has from files, which hold whatever the topic says.
    """
    published = published_rules(records)
    planned = []
    for rule in sorted(rules, key=lambda rule: (rule.id, rule.version)):
        if rule.id in of_files:
            fault = f"{rule.id}: the job has a rule of this id from a file, which holds: use another id"
            planned.append(Planned(rule.id, fault=fault))
            continue
        if _is_published(published.get(rule.id), rule):
            planned.append(Planned(rule.id, None, f"{rule.id} version {rule.version} is published already", True))
            continue
        effective = effective_at(max(rule.effective_ms, times.newest_ms + times.ahead_ms))
        text = rule.model_copy(update={"effective_from": effective}).model_dump_json(exclude_defaults=True).encode()
        change, fault = publish(published, RuleRecord("", 0, 0, times.now_ms, rule.id, text))
        if change is None:
            planned.append(Planned(rule.id, fault=f"{rule.id}: {fault}"))
            continue
        put(published, change, times.now_ms)
        said = f"{rule.id} version {rule.version} holds from {effective_at(change.versions[-1].from_ms).isoformat()}"
        planned.append(Planned(rule.id, text, said))
    return planned


def removal(records: Iterable[RuleRecord], rule_ids: Iterable[str]) -> list[Planned]:
    """Plan the removal of rules."""
    published = published_rules(records)
    planned = []
    for rule_id in dict.fromkeys(rule_ids):
        rule = published.get(rule_id)
        if rule is None:
            known = ", ".join(sorted(published)) or "no rule"
            planned.append(Planned(rule_id, fault=f"{rule_id} is not in the topic, which has {known}"))
        elif rule.is_removed:
            planned.append(Planned(rule_id, None, f"{rule_id} is removed already", True))
        else:
            planned.append(Planned(rule_id, said=f"{rule_id} is removed; its partial matches end within a minute"))
    return planned


def publish_rules(kafka: Kafka, rules: Sequence[Rule], ahead_ms: int, of_files: Container[str] = ()) -> list[str]:
    """Publish rules to the topic of a job; return a line for each. Raises CommandFailed, and then nothing was sent."""
    times = _times(kafka, ahead_ms)
    return _sent(kafka, publication(_records(kafka), rules, times, of_files), times)


def remove_rules(kafka: Kafka, rule_ids: Iterable[str]) -> list[str]:
    """Remove rules from the topic of a job; return a line for each. Raises CommandFailed, and then nothing was sent."""
    return _sent(kafka, removal(_records(kafka), rule_ids), _times(kafka, 0))


def rules_of_files(files: Iterable[Path]) -> tuple[Rule, ...]:
    """Return the rules of files. Raises CommandFailed with their first fault."""
    found = read_rule_files(files)
    if found.faults:
        message = f"{found.faults[0]}; `reasoner rules check` prints all faults"
        raise CommandFailed(message)
    return found.rules


def rules_of_topic(kafka: Kafka) -> list[tuple[Rule, str]]:
    """Return the versions in the topic of a job, each with the event times between which it holds.

    Raises CommandFailed.
    """
    published = published_rules(_records(kafka))
    return [(_rule(version), _held(version)) for _, rule in sorted(published.items()) for version in rule.versions]


def effective_at(at_ms: int) -> datetime:
    """Return an event time as rules write it."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms)


def _rule(version: RuleVersion) -> Rule:
    rule = Rule.model_validate_json(version.text)
    return rule.model_copy(update={"effective_from": effective_at(version.from_ms)})


def _held(version: RuleVersion) -> str:
    since = f"from {effective_at(version.from_ms).isoformat()}"
    if version.removed_ms != FOREVER_MS:
        return f"{since}, removed at {effective_at(version.removed_ms).isoformat()}"
    return since if version.until_ms == FOREVER_MS else f"{since} until {effective_at(version.until_ms).isoformat()}"


def _records(kafka: Kafka) -> list[RuleRecord]:
    return read_rule_records(kafka.bootstrap_servers, kafka.topics.rules)


def _times(kafka: Kafka, ahead_ms: int) -> Times:
    """Return the times of a publication. Raises CommandFailed where no telemetry can come at such a time."""
    now_ms = int(time.time() * 1000)
    newest = {topic: newest_timestamp_ms(kafka.bootstrap_servers, topic) for topic in source_names(kafka)}
    newest_ms = max((now_ms, *newest.values()))
    if newest_ms + ahead_ms >= TIME_MS_END:
        found = ", ".join(f"{at_ms} in {topic}" for topic, at_ms in newest.items())
        message = (
            f"found newest Kafka timestamps of {found}, and {ahead_ms} ms of --ahead, expected times before 2262: mend "
            "the clock of the producer, or lower --ahead"
        )
        raise CommandFailed(message)
    return Times(now_ms, newest_ms, ahead_ms)


def _sent(kafka: Kafka, planned: Sequence[Planned], times: Times) -> list[str]:
    faults = [plan.fault for plan in planned if plan.fault]
    if faults:
        lines = "\n  ".join(faults)
        message = f"{counted(faults)}, nothing was sent:\n  {lines}"
        raise CommandFailed(message)
    # A removal holds from the timestamp of its record on, a version from its own time.
    sent = [plan for plan in planned if not plan.is_there]
    records = ((plan.rule_id, plan.text, times.now_ms if plan.text else times.newest_ms) for plan in sent)
    send_rule_records(kafka.bootstrap_servers, kafka.topics.rules, records)
    return [plan.said for plan in planned]


def _is_published(before: PublishedRule | None, rule: Rule) -> bool:
    if before is None or before.is_removed:
        return False
    return any(version.version == rule.version and version.text == text_of(rule) for version in before.versions)
