"""Planted faults of `faults/*.toml`: how they are read, and how one is put into the text of its file."""

from pathlib import Path
from typing import Final

import msgspec

FAULTS: Final = Path(__file__).parent / "faults"


class BadFaults(ValueError):
    """Faults that cannot be planted; the text has their names, the finding and the next step."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A small patch, and the tests that must fail where it is applied."""

    name: str
    # Of the file, from the root of the repository.
    path: str
    # Whole lines that are in the file exactly once.
    find: str
    # The lines that replace them, "" to drop them.
    replace: str
    # The wrong behaviour that a user would see.
    why: str
    # Node ids or paths for pytest.
    killed_by: tuple[str, ...]
    # A module that cannot be imported counts as killed as well.
    collection_error: bool = False

    @property
    def room(self) -> str:
        """The package of the file, which is the name of the TOML file as well."""
        return self.path.partition("/")[0]

    @property
    def module(self) -> str:
        """The dotted name of the file."""
        return self.path.removesuffix(".py").replace("/", ".")


class _FaultFile(msgspec.Struct, forbid_unknown_fields=True):
    """The content of one TOML file."""

    fault: tuple[Fault, ...]


def read_faults(folder: Path = FAULTS) -> list[Fault]:
    """Read all faults, by file name and then in the order of the file. Raises BadFaults."""
    found: list[Fault] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            found += msgspec.toml.decode(path.read_bytes(), type=_FaultFile).fault
        except msgspec.DecodeError as error:
            message = f"{path.name}: {error}; expected tables [[fault]] as in the other files"
            raise BadFaults(message) from error
    return found


def count_places(fault: Fault, text: str) -> int:
    """Count how often the lines of `find` are in a text."""
    return len(_places(text.split("\n"), _lines(fault.find)))


def misplaced(faults: list[Fault], root: Path) -> list[str]:
    """Return a sentence for each fault whose `find` is not exactly once in its file."""
    sentences = []
    for fault in faults:
        path = root / fault.path
        count = count_places(fault, path.read_text()) if path.is_file() else 0
        if count != 1:
            sentences.append(
                f"{fault.name}: its `find` stands {count} times in {fault.path}, expected once; the code has changed: "
                f"write the fault anew in tests/mutants/faults/{fault.room}.toml, with the same wrong behaviour"
            )
    return sentences


def mutate(fault: Fault, text: str) -> str:
    """Return the text with the fault in it; `find` must be in the text exactly once."""
    lines, wanted = text.split("\n"), _lines(fault.find)
    (place,) = _places(lines, wanted)
    return "\n".join((*lines[:place], *_lines(fault.replace), *lines[place + len(wanted) :]))


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _places(lines: list[str], wanted: list[str]) -> list[int]:
    return [place for place in range(len(lines)) if lines[place : place + len(wanted)] == wanted]
