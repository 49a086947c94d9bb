"""Rules of this repository that no linter has: each yields a sentence for each violation in a module."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("state_schemas", "udfs", "operators", "jobs", "reasoner", "examples", "tests")
CONTRACTS: Final = "state_schemas.contracts"  # the only package that a service may import
PURE: Final = ("state_schemas", "udfs", "operators")  # types, functions and machines: time is an argument

FUNCTION_LINES_MAX: Final = 70
MODULE_LINES_MAX: Final = 400

_CLOCK_MODULES: Final = ("time", "random", "secrets", "uuid")
_CLOCK_CALLS: Final = (
    "now",
    "utcnow",
    "today",
    "uuid1",
    "uuid4",
    "default_rng",
    "urandom",
    "perf_counter",
    "monotonic",
)
# Paths and package mirrors of one machine. Written in two parts, so that this file does not violate its own rule.
_FORBIDDEN: Final = re.compile("/" + "work/|/" + "root/|artif" + "actory")


@dataclass(frozen=True)
class Module:
    """A Python file. name: dotted, as in an import."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]


def modules() -> Iterator[Module]:
    """Yield every Python file of the repository."""
    for package in (*PACKAGES, "services"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield Module(".".join(part for part in parts if part != "__init__"), path.read_text())


def imports(module: Module) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yield (line, module, names) of each import statement; names are empty for `import x`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)


def long_code(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines > MODULE_LINES_MAX:
        yield f"{module.name}: {lines} lines, at most {MODULE_LINES_MAX}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{module.name}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"


def clocks(module: Module) -> Iterator[str]:
    if module.room not in PURE:
        return
    for line, name, _ in imports(module):
        if name in _CLOCK_MODULES:
            yield f"{module.name}:{line}: imports {name}; time and chance are arguments"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CLOCK_CALLS:
            yield f"{module.name}:{node.lineno}: calls {node.func.attr}(); time and chance are arguments"


def prints(module: Module) -> Iterator[str]:
    if module.room in ("reasoner", "tests"):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{module.name}:{node.lineno}: prints; only what a person runs does"


def relative_imports(module: Module) -> Iterator[str]:
    for line, name, _ in imports(module):
        if name.startswith("."):
            yield f"{module.name}:{line}: imports {name or '.'}; name it in full"


def blind_excepts(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            last = node.body[-1]
            raises_again = isinstance(last, ast.Raise) and last.exc is None  # it cleans up and hides no error
            if re.search(r"\b(Base)?Exception\b", caught) and not raises_again:
                yield f"{module.name}:{node.lineno}: catches {caught}; name what can go wrong"


def private_imports(module: Module) -> Iterator[str]:
    for line, name, names in imports(module):
        if name.split(".")[0] in PACKAGES:
            private = [part for part in (*name.split("."), *names) if part.startswith("_") and not part.endswith("__")]
            for part in private:
                yield f"{module.name}:{line}: imports {part} of {name}; it is private there"


def service_imports(module: Module) -> Iterator[str]:
    if module.room != "services":
        return
    for line, name, names in imports(module):
        imported = [f"{name}.{part}" for part in names] if name == "state_schemas" else [name]
        for found in imported:
            known = found == CONTRACTS or found.startswith((f"{CONTRACTS}.", "services."))
            if found.partition(".")[0] in PACKAGES and not known:
                yield f"{module.name}:{line}: imports {found}; a service knows {CONTRACTS} only"


def imports_of_tests(module: Module) -> Iterator[str]:
    for line, name, _ in imports(module):
        if name.startswith("tests.") and name.rpartition(".")[2].startswith("test_"):
            yield f"{module.name}:{line}: imports {name}; helpers of several tests are in tests.support"


def machine_words(module: Module) -> Iterator[str]:
    for number, line in enumerate(module.text.splitlines(), 1):
        if found := _FORBIDDEN.search(line):
            yield f"{module.name}:{number}: {found.group()!r} exists on one machine only"


def reaches(start: str, target: str, graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a chain of imports from `start` to a module named `target` or inside it; empty if there is none."""
    chains, seen = [[start]], {start}
    while chains:
        chain = chains.pop(0)
        for name in sorted(graph.get(chain[-1], ())):
            if name == target or name.startswith(f"{target}."):
                return [*chain, name]
            if name not in seen:
                seen.add(name)
                chains.append([*chain, name])
    return []


def import_graph(found: Iterable[Module]) -> dict[str, set[str]]:
    """Return module -> imported modules; `from package import module` counts as both names."""
    graph: dict[str, set[str]] = {}
    for module in found:
        names = graph.setdefault(module.name, set())
        for _, name, parts in imports(module):
            names.update((name, *(f"{name}.{part}" for part in parts)))
    return graph


RULES: Final = (
    long_code,
    clocks,
    prints,
    relative_imports,
    blind_excepts,
    private_imports,
    service_imports,
    imports_of_tests,
    machine_words,
)
