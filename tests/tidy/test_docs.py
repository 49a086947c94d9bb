"""Each kind and counter of the job has an entry in the documents, each module that users import a page on the site."""

import re
from typing import Any, get_args

import yaml

from state_schemas.contracts.counters import REJECTED, MetricName
from state_schemas.contracts.insight import Kind
from tests.tidy.rules import ROOT, import_graph, modules


def entries(document: str) -> set[str]:
    """Return the names in code font in headings and in the first cells of tables."""
    text = (ROOT / "docs" / document).read_text()
    places = re.findall(r"^(?:### (.*)|\| (`.*?) \|)", text, re.MULTILINE)
    return {name for place in places for name in re.findall(r"`(\w+)`", "".join(place))}


def test_the_runbook_has_an_entry_for_each_kind_of_insight_and_no_other() -> None:
    found = entries("runbook.md")
    assert {name for name in found if not name.endswith("_total")} == set(get_args(Kind))


def test_each_counter_has_an_entry_in_the_runbook_in_the_limits_or_in_the_rejected_records() -> None:
    rejected = entries("rejected.md")
    by_reason = {counter for reason, counter in REJECTED.items() if reason in rejected}
    limits = {name for name in entries("sizing.md") if name.endswith("_total")}
    found = {name for name in entries("runbook.md") if name.endswith("_total")} | limits | by_reason
    assert found == set(get_args(MetricName))


def test_the_site_has_a_page_for_each_contract_and_for_each_module_that_examples_import() -> None:
    found = list(modules())
    named = {module.name for module in found if module.text and module.room not in ("examples", "tests")}
    graph = import_graph(module for module in found if module.room == "examples")
    imported = {name for names in graph.values() for name in names} & named
    contracts = {name for name in named if name.startswith("state_schemas.contracts.")}
    assert imported
    assert imported | contracts <= pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])


def pages(nav: Any) -> set[str]:
    """Return the modules of which the navigation has a page."""
    if isinstance(nav, str):
        return {nav.removeprefix("reference/").removesuffix(".md")}
    return {page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in pages(entry)}
