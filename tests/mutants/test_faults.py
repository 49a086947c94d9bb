"""The faults can be planted, and the runner separates killed from surviving faults. `make mutants` runs them all."""

from pathlib import Path

import pytest

from tests.mutants.fault import BadFaults, Fault, misplaced, mutate, read_faults
from tests.mutants.origin import ELSEWHERE
from tests.mutants.run import chosen, compiled_modules, judge
from tests.mutants.tree import TreeCopy
from tests.tidy.rules import PACKAGES, ROOT

TEXT = "def f(x):\n    return x + 1\n"
NARROW = Fault("less", "udfs/f.py", "    return x + 1\n", "    return x\n", "it is one less", ("tests/test_f.py",))


def test_each_fault_stands_once_in_its_file_and_still_parses() -> None:
    faults = read_faults()
    assert not (sentences := misplaced(faults, ROOT)), "\n".join(sentences)
    for fault in faults:
        text = (ROOT / fault.path).read_text()
        assert mutate(fault, text) != text, fault.name
        compile(mutate(fault, text), fault.path, "exec")


def test_each_fault_has_a_name_of_its_own_a_reason_and_tests_that_exist() -> None:
    faults = read_faults()
    assert len({fault.name for fault in faults}) == len(faults)
    for fault in faults:
        assert fault.why, fault.name
        assert fault.killed_by, fault.name
        for node in fault.killed_by:
            path, _, test = node.partition("::")
            assert (ROOT / path).exists(), f"{fault.name}: {path}"
            assert not test or f"def {test.partition('[')[0]}(" in (ROOT / path).read_text(), f"{fault.name}: {test}"


def test_each_room_has_its_faults() -> None:
    assert {fault.room for fault in read_faults()} == set(PACKAGES) - {"tests"}


def test_the_sentence_about_a_fault_that_no_longer_fits_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "udfs").mkdir()
    (tmp_path / NARROW.path).write_text(TEXT + TEXT)
    (sentence,) = misplaced([NARROW], tmp_path)
    assert sentence.startswith("less: its `find` stands 2 times in udfs/f.py, expected once; ")
    assert "tests/mutants/faults/udfs.toml" in sentence


def test_an_unknown_name_is_refused_with_the_known_names() -> None:
    with pytest.raises(BadFaults, match="no fault is named more; there are less"):
        chosen([NARROW], ["more"])


def test_compiled_modules_are_the_kernels_and_their_imports() -> None:
    assert {
        "udfs.compiled",
        "udfs.logs.masking.kernel",
        "udfs.logs.masking.byte_classes",
        "state_schemas.aggregates.spans",
    } <= compiled_modules()
    assert "udfs.detect.latency.rule" not in compiled_modules()


def tree(root: Path, test: str) -> TreeCopy:
    """Make a copy with one function, one test, and the plugin of the checkout."""
    for name in ("tests/__init__.py", "tests/mutants/__init__.py", "tests/tidy/__init__.py", "udfs/__init__.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("tests/mutants/origin.py", "tests/tidy/rules.py"):
        (root / name).write_text((ROOT / name).read_text())
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (root / NARROW.path).write_text(TEXT)
    (root / "tests/test_f.py").write_text(test)
    return TreeCopy(root)


@pytest.mark.parametrize(
    ("test", "word"),
    [
        ("from udfs.f import f\n\n\ndef test_f():\n    assert f(1) == 2\n", "killed"),
        ("from udfs.f import f\n\n\ndef test_f():\n    assert f(1) > 0\n", "SURVIVED"),
        ("from udfs.f import f\n\nassert f(1) == 2\n\n\ndef test_f():\n    pass\n", "UNDECIDED"),
    ],
)
def test_a_fault_is_killed_by_a_test_that_fails_and_by_nothing_else(tmp_path: Path, test: str, word: str) -> None:
    copy = tree(tmp_path, test)
    before = (tmp_path / NARROW.path).stat().st_mtime_ns
    verdict = judge(NARROW, copy, frozenset())
    assert verdict.word == word
    assert (len(list(verdict.lines())) == 1) == (word == "killed"), "a fault that is not killed is explained"
    assert ((tmp_path / NARROW.path).read_text(), (tmp_path / NARROW.path).stat().st_mtime_ns) == (TEXT, before)


def test_a_package_of_another_checkout_ends_the_run(tmp_path: Path) -> None:
    copy = tree(tmp_path, f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport jobs\n\n\ndef test_f():\n    pass\n")
    done = copy.run(NARROW.killed_by)
    assert done.exit_code == ELSEWHERE, done.output
    assert f"jobs was imported from {ROOT}" in done.output
