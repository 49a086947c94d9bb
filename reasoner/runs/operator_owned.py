"""Jobs that Flink's Kubernetes operator owns: it would undo, or not know, what is done to them past it (0034)."""

from typing import Final, Literal

from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed

Change = Literal["stop", "upgrade", "rollback"]

# The operator writes the generation of the FlinkDeployment into this option of every cluster that it makes.
_MARK: Final = "kubernetes.jobmanager.annotations.flinkdeployment.flink.apache.org/generation"
_APPLICATION: Final = "$internal.application.main"  # of a cluster of one job
_SUSPEND: Final = """kubectl patch {of} --type merge -p '{{"spec":{{"job":{{"state":"suspended"}}}}}}'"""
_INSTEAD: Final = {
    "stop": f"`{_SUSPEND}` stops it with a savepoint, and `running` in place of `suspended` goes on from it",
    "upgrade": "`kubectl apply -k OVERLAY` with the new settings or image upgrades it by savepoint",
    "rollback": (
        "`kubectl apply -k OVERLAY` with the settings and the image of before goes on from now with them; to go back "
        "to a savepoint, so that what was committed since then counts twice, set spec.job.initialSavepointPath to it "
        "and raise spec.job.savepointRedeployNonce"
    ),
}


def refuse(rest: FlinkRest, change: Change) -> None:
    """Raise CommandFailed with the command to use where the cluster is an application cluster of the operator.

    A session cluster of the operator is not refused: jobs of `reasoner submit` run there too.
    """
    settings = rest.settings()
    if not settings.keys() >= {_MARK, _APPLICATION}:
        return
    name, namespace = settings.get("kubernetes.cluster-id", "NAME"), settings.get("kubernetes.namespace", "default")
    of = f"flinkdeployment {name} -n {namespace}"
    message = (
        f"{rest.url} is of Flink's Kubernetes operator, which keeps its job as {of} says: nothing was changed; "
        f"{_INSTEAD[change].format(of=of)} (docs/kubernetes.md)"
    )
    raise CommandFailed(message)
