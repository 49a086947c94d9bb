"""Mapping of Sigma fields: what is shipped, what a file adds and overrides, and what is wrong in one."""

from pathlib import Path

import pytest

from reasoner.errors import WrongUse
from reasoner.sigma.mapping import LogSource, read_mapping
from reasoner.sigma.refused import Refused

PROCESSES = LogSource("process_creation", "linux")


@pytest.mark.parametrize(
    ("source", "field", "attribute"),
    [
        (PROCESSES, "CommandLine", "attributes.process.command_line"),
        (LogSource("webserver"), "cs-uri-query", "attributes.url.query"),
        (LogSource("proxy"), "c-useragent", "attributes.user_agent.original"),
        (LogSource("application", "kubernetes", "audit"), "objectRef.resource", "attributes.objectRef.resource"),
        (LogSource("", "linux", "auditd"), "a0", "attributes.a0"),
        (LogSource("", "linux", "sshd"), "Computer", "host"),
    ],
)
def test_the_shipped_mapping_has_the_fields_of_a_log_source(source: LogSource, field: str, attribute: str) -> None:
    assert read_mapping().source(source).field(field) == attribute


def test_of_the_sources_that_cover_one_the_one_that_names_most_of_it_holds() -> None:
    assert read_mapping().source(LogSource("", "linux", "sshd")).where == {"attributes.appname|startswith": "sshd"}
    assert read_mapping().source(LogSource("", "linux", "other")).where == {"attributes.appname|exists": True}
    for other in (LogSource("antivirus"), LogSource("dns_query", "linux")):
        with pytest.raises(Refused):
            read_mapping().source(other)


def test_a_file_adds_fields_and_sources_and_overrides_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text("""
sources:
  - logsource: {category: process_creation, product: linux}
    where: {}
    by: service
    fields: {Image: attributes.exe, Extra: attributes.extra}
  - logsource: [{category: antivirus}, {product: Shop}]
    keywords: body
""")
    mapping = read_mapping([file])
    processes = mapping.source(PROCESSES)
    assert (processes.where, processes.by) == ({}, "service")
    assert [processes.field(name) for name in ("Image", "Extra", "User")] == [
        "attributes.exe",
        "attributes.extra",
        "attributes.process.owner",
    ]
    assert mapping.source(LogSource("", "shop")).keyword_field() == "body"
    assert mapping.source(LogSource("antivirus")).by == "service"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("sources: [{logsource: {category: a}, fields: {A: bdy}}]", "log source category a: A: log has no field 'bdy'"),
        ("sources: [{logsource: {category: a}, keywords: x}]", "keywords: log has no field 'x'"),
        ("sources: [{logsource: {category: a}, where: {body|conains: x}}]", "unknown modifier 'conains'"),
        ("sources: [{logsource: {category: a}, by: pod}]", "sources.0.by: "),
        ("sources: [{logsource: {categry: a}}]", "categry"),
        ("sources: [{logsource: []}]", "sources.0.logsource"),
        ("source: []", "sources: Field required"),
        ("- a", "the file: "),
        ("a: &b c", "found an anchor"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_file_with_faults_is_refused_with_each(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text(text)
    with pytest.raises(WrongUse) as refused:
        read_mapping([file])
    assert str(file) in str(refused.value)
    assert fault in str(refused.value)


def test_a_file_that_does_not_exist_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="cannot be read"):
        read_mapping([tmp_path / "none.yaml"])
