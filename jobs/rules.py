"""Rule files of a job: all rules of a file or a folder, or all their faults in one message."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from state_schemas.contracts.rules import Rule
from state_schemas.contracts.settings import BadConfig, counted
from udfs.rules.compiled import RuleIndex, compile_rules
from udfs.rules.document import FILE_BYTES_MAX, RuleFault, read_rules

__all__ = ["Loaded", "beginning_of", "load_rules", "read_rule_files", "rule_files"]

SUFFIXES: Final = (".yaml", ".yml")
FILES_MAX: Final = 1_000  # of a folder


class Loaded(NamedTuple):
    """The rules of files, compiled; those with faults are not among the compiled ones."""

    rules: tuple[Rule, ...]
    compiled: RuleIndex
    faults: tuple[RuleFault, ...]


def load_rules(path: Path) -> RuleIndex:
    """Return the compiled rules of a file or a folder. Raises BadConfig with all faults of all files."""
    found = read_rule_files([path])
    if found.faults:
        lines = "\n  ".join(map(str, found.faults))
        message = f"{path}: {counted(found.faults)} in rules, nothing was done:\n  {lines}\nsee docs/rules.md"
        raise BadConfig(message)
    return found.compiled


def read_rule_files(paths: Iterable[Path]) -> Loaded:
    """Read and compile all rules of these files and folders; files that cannot be read are faults."""
    rules: list[Rule] = []
    places: dict[tuple[str, int], tuple[str, tuple[int, ...]]] = {}
    faults: list[RuleFault] = []
    for file in rule_files(paths, faults):
        data = beginning_of(file, faults)
        if data is None:
            continue
        found = read_rules(str(file), data)
        faults += found.faults
        for rule, lines in zip(found.rules, found.lines, strict=True):
            first, (line, *_) = places.setdefault((rule.id, rule.version), (str(file), lines))
            if first != str(file):
                text = f"{rule.id} version {rule.version} is in {first}:{line} already, expected another one"
                faults.append(RuleFault(str(file), lines[0], text))
            elif lines == places[rule.id, rule.version][1]:
                rules.append(rule)
    index, wrong = compile_rules(rules)
    for rule, step, text in wrong:
        place, lines = places[rule.id, rule.version]
        faults.append(RuleFault(place, lines[1 + step], f"{rule.id}: {text}"))  # the line of the rule is the first
    return Loaded(tuple(rules), index, tuple(sorted(faults)))


def rule_files(paths: Iterable[Path], faults: list[RuleFault]) -> Sequence[Path]:
    """Return the files, and the YAML files in the folders, by name; a folder with too many is a fault."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            found[path] = None
            continue
        # A mounted ConfigMap has its files a second time, in a hidden folder.
        found_in = (
            file for file in path.rglob("*") if not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        inside = sorted(file for file in found_in if file.suffix in SUFFIXES and file.is_file())
        if len(inside) > FILES_MAX:
            text = f"has {len(inside)} files of rules, expected at most {FILES_MAX}: divide it into several folders"
            faults.append(RuleFault(str(path), 0, text))
        found |= dict.fromkeys(inside[:FILES_MAX])
    return tuple(found)


def beginning_of(file: Path, faults: list[RuleFault]) -> bytes | None:
    """Return the beginning of a file, of which one byte too many shows that it is too long; None with a fault."""
    try:
        with file.open("rb") as opened:
            return opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        faults.append(
            RuleFault(str(file), 0, f"cannot be read: {error.strerror}; expected a file of rules or a folder")
        )
        return None
