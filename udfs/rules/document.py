"""Reading of rule files: YAML text to rules, or all faults with their lines.

Limits act on the events of the YAML scanner, before anything is built: a file cannot cost more than its length.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import yaml
from pydantic import ValidationError

from state_schemas.contracts.rules import Rule, shown
from state_schemas.contracts.settings import expected, known_name

__all__ = ["RuleFault", "RuleFile", "read_documents", "read_rules"]

FILE_BYTES_MAX: Final = 256 * 1024
RULES_MAX: Final = 200  # of a file
DEPTH_MAX: Final = 12  # of nested maps and lists; the deepest rule has 7
NODES_MAX: Final = 50_000  # of a file
FAULTS_MAX: Final = 20  # of a rule that are reported
_NO_RULE: Final = "has no rule, expected a map with id, version, title, by, within and steps"

Path = tuple[str | int, ...]


class RuleFault(NamedTuple):
    """A fault of a rule file. line: from 1, 0 for the whole file."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class RuleFile(NamedTuple):
    """The rules of a file, with the lines of each, and its faults.

    lines: of the rule, then of each of its steps.
    """

    rules: tuple[Rule, ...]
    lines: tuple[tuple[int, ...], ...]
    faults: tuple[RuleFault, ...]


class _Refused(Exception):
    """A file that is not read further."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def read_rules(file: str, data: bytes) -> RuleFile:
    """Read a file of rules, one for each YAML document. Never raises; O(length)."""
    try:
        documents = _documents(_text(data), _NO_RULE)
    except _Refused as refused:
        return RuleFile((), (), (RuleFault(file, refused.line, str(refused)),))
    rules: list[Rule] = []
    lines: list[tuple[int, ...]] = []
    faults: list[RuleFault] = []
    for node in documents:
        places: dict[Path, int] = {}
        found = _rule(file, node, places)
        if isinstance(found, Rule):
            rules.append(found)
            lines.append((places[()], *(places["steps", number] for number in range(len(found.steps)))))
        else:
            faults += found
    faults += _repeated(file, rules, [of_rule[0] for of_rule in lines])
    return RuleFile(tuple(rules), tuple(lines), tuple(faults))


def read_documents(file: str, data: bytes) -> tuple[list[tuple[int, Any]], list[RuleFault]]:
    """Return each YAML document as plain data behind its line, and the faults, under the limits of rule files.

    Never raises; O(length).
    """
    found: list[tuple[int, Any]] = []
    faults: list[RuleFault] = []
    try:
        documents = _documents(_text(data), "has no document")
    except _Refused as refused:
        return found, [RuleFault(file, refused.line, str(refused))]
    for node in documents:
        try:
            found.append((_line(node), _plain(node, (), {})))
        except _Refused as refused:
            faults.append(RuleFault(file, refused.line, str(refused)))
    return found, faults


def _text(data: bytes) -> str:
    if len(data) > FILE_BYTES_MAX:
        raise _Refused(0, f"has more than {FILE_BYTES_MAX // 1024} kB, expected less: divide it into several files")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        found = f"found byte 0x{data[error.start]:02x} at position {error.start}"
        raise _Refused(0, f"is not UTF-8: {found}; save it as UTF-8") from error
    return text


def _documents(text: str, if_empty: str) -> list[yaml.Node]:
    """Return the node of each document that is not empty. if_empty: what a file without one is refused with."""
    try:
        _refuse_beyond_limits(yaml.parse(text, Loader=yaml.SafeLoader))
        documents = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if not _is_empty(node)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise _Refused(line, f"is no YAML: {error.problem or error.context}; expected `name: value`") from error
    except yaml.YAMLError as error:
        raise _Refused(0, f"is no YAML: {str(error).partition(chr(10))[0]}") from error
    except (ValueError, OverflowError) as error:  # PyYAML turns \U00110000 and beyond into a character
        raise _Refused(0, f"has an escape that is no character: {error}") from error
    if not documents:
        raise _Refused(0, if_empty)
    if len(documents) > RULES_MAX:
        raise _Refused(_line(documents[RULES_MAX]), f"has more than {RULES_MAX} rules: divide it into several files")
    return documents


def _refuse_beyond_limits(events: Iterable[yaml.Event]) -> None:
    depth = 0
    for number, event in enumerate(events):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused(line, "found an anchor or an alias of YAML, expected the text itself: write it out")
        if tag := getattr(event, "tag", None):
            raise _Refused(line, f"found the tag {tag}, expected plain YAML: take it out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX:
            raise _Refused(line, f"nests deeper than {DEPTH_MAX} levels, expected a rule: the deepest one has 7")
        if number > NODES_MAX:
            raise _Refused(line, f"has more than {NODES_MAX} values: divide it into several files")


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _rule(file: str, node: yaml.Node, places: dict[Path, int]) -> Rule | list[RuleFault]:
    """Return the rule of a document, or its faults. places: gets the line of each path."""
    try:
        plain = _plain(node, (), places)
    except _Refused as refused:
        return [RuleFault(file, refused.line, str(refused))]
    try:
        return Rule.model_validate(plain)
    except ValidationError as error:
        found = error.errors(include_url=False)
    faults = (RuleFault(file, _line_of(fault["loc"], places), _sentence(fault)) for fault in found)
    return _distinct(faults)[:FAULTS_MAX]


def _plain(node: yaml.Node, path: Path, places: dict[Path, int]) -> Any:
    """Return a node as plain data; places: gets the line of each path. Raises _Refused for a key that comes twice."""
    places[path] = _line(node)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, number), places) for number, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = _key(key)
            if name in found:
                raise _Refused(_line(key), f"found {name} twice, expected one of them: the first would be lost")
            found[name] = _plain(value, (*path, name), places)
            places[(*path, name)] = _line(key)
        return found
    return _scalar(node)


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _Refused(_line(node), "found a list or map as a name, expected text")
    return str(_scalar(node)) if node.tag.endswith(":str") else str(node.value)


def _scalar(node: yaml.Node) -> Any:
    """Return the value of a scalar. A time stays text: pydantic reads it."""
    assert isinstance(node, yaml.ScalarNode), f"{type(node).__name__} is no scalar"
    if node.tag == "tag:yaml.org,2002:timestamp":
        return node.value
    try:
        node.value.encode()
        return yaml.SafeLoader("").construct_object(node)
    except UnicodeEncodeError as error:
        raise _Refused(_line(node), "found half of a surrogate pair, expected a character") from error
    except (ValueError, OverflowError, yaml.YAMLError) as error:
        raise _Refused(_line(node), f"found {node.value[:40]!r}, expected text in quotes: {error}") from error


def _sentence(fault: Any) -> str:
    """Return one of pydantic's faults as a sentence: place, what was found, what was expected."""
    named = [part for part in fault["loc"] if not _is_branch(part)]
    place = ".".join(map(str, named)) or "the rule"
    if fault["type"] == "missing":
        return f"{place}: found nothing: {expected(fault)}"
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown name; {known_name(_model_path(named), Rule)}"
    if fault["type"] == "value_error":
        return f"{place}: {fault['ctx']['error']}"
    return f"{place}: found {shown(fault['input'])}: {expected(fault)}"


def _is_branch(part: str | int) -> bool:
    """Return whether a part of pydantic's place names a branch of a union, not a name in the file."""
    return isinstance(part, str) and "[" in part


def _model_path(named: Sequence[str | int]) -> tuple[str, ...]:
    return tuple(part for part in named if isinstance(part, str))


def _line_of(place: Path, places: dict[Path, int]) -> int:
    """Return the line of the longest part of a place that is in the file."""
    path = tuple(part for part in place if not _is_branch(part))
    return next(places[path[:length]] for length in range(len(path), -1, -1) if path[:length] in places)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _distinct(faults: Iterable[RuleFault]) -> list[RuleFault]:
    """Return the faults by line; of those in one line with one place the first, as unions report each branch."""
    found: dict[tuple[int, str], RuleFault] = {}
    for fault in faults:
        found.setdefault((fault.line, fault.text.partition(":")[0]), fault)
    return sorted(found.values(), key=lambda fault: fault.line)


def _repeated(file: str, rules: Sequence[Rule], lines: Sequence[int]) -> Iterator[RuleFault]:
    seen: dict[tuple[str, int], int] = {}
    for rule, line in zip(rules, lines, strict=True):
        first = seen.setdefault((rule.id, rule.version), line)
        if first != line:
            text = f"{rule.id} version {rule.version} is in line {first} already, expected another id or version"
            yield RuleFault(file, line, text)
