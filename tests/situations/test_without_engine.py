"""The situations that are made fastest give the sentences that stand in the table."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.situations.rows import ROWS, WITHOUT_ENGINE
from tests.situations.situation import Place, Situation, faults, run, table_row
from tests.tidy.rules import ROOT

TABLE = ROOT / "docs" / "wrong-situations.md"


@pytest.mark.parametrize("row", [row for row in WITHOUT_ENGINE if row.quick], ids=lambda row: row.name)
def test_the_user_sees_a_sentence_and_it_is_that_of_the_table(row: Situation, tmp_path: Path) -> None:
    with ExitStack() as stack:
        place = Place(tmp_path, stack)
        seen = run(row, place)
    assert not faults(row, seen), seen.output
    assert table_row(row, seen, place) in TABLE.read_text().splitlines(), "`make test-faults` writes the table anew"


def test_the_table_has_forty_situations_and_more() -> None:
    rows = TABLE.read_text().partition("|---|---|---|---|\n")[2].splitlines()
    assert len(rows) >= 40
    assert [line.removeprefix("| ").partition(" | ")[0] for line in rows] == [row.name for row in ROWS]
