"""A job of Flink's Kubernetes operator is not changed past it, and the command that does it is named."""

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed
from reasoner.runs import operator_owned

MARK = "kubernetes.jobmanager.annotations.flinkdeployment.flink.apache.org/generation"
# As the JobManager of an application cluster shows them.
SETTINGS = {
    MARK: "2",
    "kubernetes.cluster-id": "insights",
    "kubernetes.namespace": "prod",
    "$internal.application.main": "org.apache.flink.client.python.PythonDriver",
}
REST = FlinkRest("http://127.0.0.1:8081")


def given(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    monkeypatch.setattr(FlinkRest, "settings", lambda _: settings)


@pytest.mark.parametrize(
    ("change", "instead"),
    [
        (
            "stop",
            'kubectl patch flinkdeployment insights -n prod --type merge -p \'{"spec":{"job":{"state":"suspended"',
        ),
        ("upgrade", "kubectl apply -k OVERLAY"),
        ("rollback", "spec.job.initialSavepointPath"),
    ],
)
def test_a_change_of_an_operators_job_is_refused_with_the_command_to_use(
    monkeypatch: pytest.MonkeyPatch, change: operator_owned.Change, instead: str
) -> None:
    given(monkeypatch, SETTINGS)
    with pytest.raises(CommandFailed) as refused:
        operator_owned.refuse(REST, change)
    assert instead in str(refused.value)


@pytest.mark.parametrize("without", [MARK, "$internal.application.main"])
def test_a_session_and_a_cluster_without_the_operator_are_not_refused(
    monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    given(monkeypatch, {name: value for name, value in SETTINGS.items() if name != without})
    operator_owned.refuse(REST, "stop")
