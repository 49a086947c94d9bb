"""Sigma rules of the tests, and what they become."""

from typing import Any

from sigma.rule import SigmaRule

from reasoner.sigma.documents import sigma_of
from reasoner.sigma.mapping import read_mapping
from reasoner.sigma.rules import of_detection
from state_schemas.contracts.rules import Condition
from udfs.rules.conditions import Conditions, compile_conditions

MAPPING = read_mapping()
PROCESSES = {"product": "linux", "category": "process_creation"}
# Fields of processes as records have them.
ATTRIBUTES = {
    "Image": "attributes.process.executable.path",
    "CommandLine": "attributes.process.command_line",
    "User": "attributes.process.owner",
    "ProcessId": "attributes.process.pid",
}


def plain(detection: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the document of a Sigma rule on processes."""
    return {"title": "A rule", "logsource": PROCESSES, "detection": detection, **more}


def conditions_of(document: dict[str, Any]) -> list[Condition]:
    """Return the conditions that a Sigma rule becomes. Raises Refused."""
    rule = sigma_of(document)
    assert isinstance(rule, SigmaRule)
    found = of_detection(rule, MAPPING).document["steps"][0]["log"]
    return found if isinstance(found, list) else [found]


def compiled(document: dict[str, Any]) -> Conditions:
    """Return the compiled conditions of a Sigma rule. Raises Refused."""
    conditions, faults = compile_conditions("log", conditions_of(document))
    assert not faults
    return conditions
