"""A group without offsets is one that has read nothing, also while the broker prepares its topic of offsets."""

from contextlib import nullcontext
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError
from kafka.errors import GroupAuthorizationFailedError as NotAllowed

from reasoner.clients import group_offsets


def answer_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Admin:
        def list_group_offsets(self, group: str) -> dict[str, Any]:
            raise error

    monkeypatch.setattr(group_offsets, "admin_of", lambda bootstrap: nullcontext(Admin()))


@pytest.mark.parametrize(
    "error", [CoordinatorNotAvailableError(), NotCoordinatorError(), CoordinatorLoadInProgressError()], ids=repr
)
def test_a_broker_that_prepares_its_offsets_has_none_yet(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    answer_with(monkeypatch, error)
    assert group_offsets.committed_offsets("broker", "job") == {}
    assert not group_offsets.has_read("broker", "job", {TopicPartition("traces", 0): 1})


def test_a_refusal_of_the_broker_is_not_mistaken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, NotAllowed())
    with pytest.raises(NotAllowed):
        group_offsets.committed_offsets("broker", "job")
