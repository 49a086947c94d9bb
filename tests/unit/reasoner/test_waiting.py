"""Waiting ends with the first true answer, or at the deadline with an error sentence."""

import pytest

from reasoner.errors import CommandFailed
from reasoner.waiting import wait_until


def test_the_first_true_answer_is_returned_and_nothing_is_asked_after_it() -> None:
    answers = iter(["", "", "here", "later"])
    assert wait_until(lambda: next(answers), "something", 10.0, 0.0) == "here"
    assert next(answers) == "later"


def test_a_condition_is_asked_once_even_where_there_is_no_time_left() -> None:
    assert wait_until(lambda: True, "something", -1.0)
    with pytest.raises(CommandFailed, match="not within 0 s: a checkpoint"):
        wait_until(lambda: False, "a checkpoint", 0.0, 0.0)
