"""A group without offsets is one that has read nothing, also while the broker prepares its topic of offsets."""

from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError
from kafka.errors import GroupAuthorizationFailedError as NotAllowed

from reasoner.clients import group_offsets


def answer_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Admin:
        def __init__(self, **_: Any) -> None: ...
        def list_group_offsets(self, group: str) -> dict[str, Any]:
            raise error

        def close(self) -> None: ...

    monkeypatch.setattr(group_offsets, "KafkaAdminClient", Admin)


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
