"""The repository keeps its rules, and each rule finds its violations."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.tidy.rules import (
    CONTRACTS,
    FUNCTION_LINES_MAX,
    MODULE_LINES_MAX,
    ROOT,
    RULES,
    Module,
    blind_excepts,
    clocks,
    import_graph,
    imports_of_tests,
    long_code,
    machine_words,
    modules,
    prints,
    private_imports,
    reaches,
    relative_imports,
    service_imports,
)
from tests.tidy.words import BANNED, private_words, verbless_docstrings

Rule = Callable[[Module], Iterator[str]]
WORDS = (private_words, verbless_docstrings)
FLINK_ONLY = ("operators.runtime.flink", "operators.runtime.flink_graph")


def test_the_repository_keeps_every_rule() -> None:
    faults = [fault for module in modules() for rule in (*RULES, *WORDS) for fault in rule(module)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("rule", "room", "text"),
    [
        (long_code, "udfs", "x = 1\n" * (MODULE_LINES_MAX + 1)),
        (long_code, "udfs", "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
        (clocks, "udfs", "import time\n"),
        (private_words, "udfs", "pane_ms = 1\n"),
        (private_words, "operators", "def SourcePatternHeard(): ...\n"),
        (private_words, "tests", "HALVES = 1\n"),
        (private_words, "udfs", 'x = 1\n"""Not a docstring."""\ndef f():\n    """Return what is told."""\n'),
        (verbless_docstrings, "udfs", 'def f():\n    """What is known."""\n'),
        (verbless_docstrings, "jobs", 'def f():\n    """The sum."""\n'),
        (clocks, "operators", "from random import choice\n"),
        (clocks, "state_schemas", "from datetime import datetime\nx = datetime.now()\n"),
        (clocks, "udfs", "import numpy as np\nx = np.random.default_rng()\n"),
        (prints, "operators", "print(1)\n"),
        (relative_imports, "udfs", "from . import sketch\n"),
        (relative_imports, "udfs", "from .sketch import pack\n"),
        (blind_excepts, "reasoner", "try:\n    f()\nexcept Exception:\n    g()\n"),
        (blind_excepts, "jobs", "try:\n    f()\nexcept (OSError, BaseException):\n    g()\n"),
        (blind_excepts, "jobs", "try:\n    f()\nexcept:\n    g()\n"),
        (private_imports, "jobs", "from udfs.stats.duration_histogram import _edges\n"),
        (private_imports, "jobs", "from udfs._hidden import edges\n"),
        (service_imports, "services", "from state_schemas.state.latency import Learned\n"),
        (service_imports, "services", "from state_schemas import codec\n"),
        (service_imports, "services", "import jobs.settings\n"),
        (imports_of_tests, "tests", "from tests.laws.test_graph import GRAPH\n"),
        (machine_words, "jobs", 'PATH = "/ro' + 'ot/x"\n'),
    ],
)
def test_a_rule_finds(rule: Rule, room: str, text: str) -> None:
    assert len(list(rule(Module(f"{room}.example", text)))) == 1


@pytest.mark.parametrize(
    ("rule", "room", "text"),
    [
        (long_code, "udfs", "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)),
        (clocks, "reasoner", "import time\n"),
        (clocks, "udfs", "from datetime import UTC, datetime\nx = datetime.fromtimestamp(5, UTC)\n"),
        (prints, "reasoner", "print(1)\n"),
        (private_words, "udfs", "trace_shape_change = company = 1\n"),
        (
            verbless_docstrings,
            "udfs",
            'class A:\n    """What is known."""\n    @property\n    def b(self):\n        """The sum."""\n',
        ),
        (verbless_docstrings, "tests", 'def test_f():\n    """The sum."""\n'),
        (relative_imports, "udfs", "from udfs.stats.duration_histogram import pack\n"),
        (blind_excepts, "jobs", "try:\n    f()\nexcept OSError:\n    g()\n"),
        (blind_excepts, "jobs", "try:\n    f()\nexcept BaseException:\n    g()\n    raise\n"),
        (private_imports, "jobs", "from typing import _GenericAlias\nfrom __future__ import annotations\n"),
        (service_imports, "services", "import fastapi\nfrom state_schemas.contracts.settings import Kafka\n"),
        (service_imports, "services", "from state_schemas import contracts\nfrom services.api import routes\n"),
        (service_imports, "reasoner", "import jobs.settings\n"),
        (imports_of_tests, "tests", "from tests.support.traffic import fold\n"),
        (machine_words, "jobs", 'PATH = "/tmp/x"\n'),
    ],
)
def test_a_rule_lets_pass(rule: Rule, room: str, text: str) -> None:
    assert list(rule(Module(f"{room}.example", text))) == []


def test_a_chain_of_imports_is_found() -> None:
    found = [Module("a", "from b import c\n"), Module("b.c", "import pyflink.table\n"), Module("d", "import a_b\n")]
    assert reaches("a", "pyflink", import_graph(found)) == ["a", "b.c", "pyflink.table"]
    assert reaches("d", "pyflink", import_graph(found)) == []


def test_only_the_adapter_and_the_jobs_reach_flink() -> None:
    graph = import_graph(modules())
    pure = [name for name in graph if name.split(".")[0] in ("state_schemas", "udfs", "operators")]
    chains = {name: reaches(name, "pyflink", graph) for name in pure}
    assert tuple(name for name, chain in chains.items() if chain) == FLINK_ONLY, chains


def test_the_graph_in_one_process_runs_without_flink() -> None:
    """A fresh process imports the modules of `reasoner replay --engine local`: no module of the engine is loaded."""
    assert _loaded("import jobs.graph, operators.runtime.local", ["pyflink"]) == set()


def test_readers_of_topics_and_tables_load_nothing_of_the_machines() -> None:
    """The contracts need the base dependencies only. Their import time is printed."""
    contracts = [module.name for module in modules() if module.name.startswith(CONTRACTS)]
    heavy = ["numpy", "numba", "pyflink", "pandas", "pyarrow", "zstandard", "google", "udfs", "operators", "jobs"]
    assert _loaded(f"import {', '.join(contracts)}", heavy) == set()


@pytest.mark.parametrize("words", ["insights tail", "tables describe", "replay", "explain", "bench job", "evaluate"])
def test_the_help_of_a_command_loads_neither_engine_nor_compiler(words: str) -> None:
    code = (
        f"sys.argv = ['reasoner', *{words.split()}, '--help']\n"
        "from reasoner.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main()"
    )
    assert _loaded(code, ["pyflink", "numba"]) == set()


def _loaded(code: str, names: list[str]) -> set[str]:
    """Run code in a fresh process; return which of these packages it has loaded, and print how long it took."""
    program = (
        f"import contextlib, io, sys, time\nbegan_s = time.perf_counter()\n{code}\n"
        "print(round(time.perf_counter() - began_s, 2), *{name.partition('.')[0] for name in sys.modules})"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    took_s, *loaded = done.stdout.split()
    sys.stdout.write(f"{took_s} s: {code.splitlines()[0]}\n")
    assert "sys" in loaded
    return set(names) & set(loaded)


def test_the_glossary_uses_none_of_the_words_that_it_replaces() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    assert not {word for word in re.findall(r"[a-z]+", text.lower()) if word in BANNED}


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/glossary.md"])
def test_files_that_a_document_names_exist(document: str) -> None:
    rooms = "state_schemas|udfs|operators|jobs|reasoner|tests|docs|examples|locks"
    named = re.findall(rf"`((?:{rooms})/[a-z0-9_./-]+)`", (ROOT / document).read_text())
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]
