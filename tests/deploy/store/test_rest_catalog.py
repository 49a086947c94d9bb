"""A job on an Iceberg REST catalog that wants a token: both clients use it, and every span is counted once."""

from pathlib import Path
from typing import Any

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.runs.job_process import write_config
from reasoner.stack import RunningStack
from reasoner.stack.s3 import credentials_file
from state_schemas.contracts.settings import Lake
from state_schemas.contracts.tables import TABLES
from tests.deploy.store.conftest import config_on_s3, played
from tests.deploy.store.rest_server import rest_catalog
from tests.faults.terminal import Person
from tests.services.job_runs import ClusterJob
from tests.support.submitted import outcome

pytestmark = pytest.mark.deploy

NAME = "rested"
TOKEN = "a-token-of-a-person"
# What the reference implementation gives to the client `job` for its secret.
TOKEN_OF_JOB = "client-credentials-token:sub=job"


def test_rest_catalog(
    stack: RunningStack, tmp_path: Path, verdict: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials_file(stack.settings)))
    properties = {
        "warehouse": f"s3://warehouse/{NAME}",
        "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        "s3.endpoint": stack.settings.s3_url,
        "s3.path-style-access": "true",
        "client.region": "us-east-1",
    }
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "credential").write_text("job:its-secret")
    with rest_catalog(tmp_path / "catalog", properties, (TOKEN, TOKEN_OF_JOB)) as uri:
        config = config_on_s3(stack, NAME, tmp_path, uri=uri, warehouse="", credential_file=tmp_path / "credential")
        job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
        file = write_config(config, tmp_path / f"{NAME}.yaml")
        person = Person(tmp_path, stack, file)
        refused = person.run("tables", "create", "--config", str(_with_lake(job, person, {})), code=1)
        by_token = _with_lake(job, person, {"token_file": str(tmp_path / "token")})
        made = person.run("tables", "create", "--config", str(by_token))
        assert made.splitlines() == [f"{spec.name}: created" for spec in TABLES]
        assert "does not answer as expected" in refused
        messages = played(job, person, file)
        shown = person.run("insights", "list", "--config", str(file), "--since", "9000d")
        verdict |= {"refused_without_token": refused.strip(), **outcome(job, messages)}
        assert "P95 latency" in shown
    verdict["pass"] = True


def _with_lake(job: ClusterJob, person: Person, secrets: dict[str, str]) -> Path:
    """Write the settings with these secrets in place of the credential of the job; return their file."""
    lake = {**job.config.lake.model_dump(), "credential_file": None, **secrets}
    config = job.config.model_copy(update={"lake": Lake.model_validate(lake)})
    return write_config(config, person.folder / f"by-{'-'.join(secrets) or 'nothing'}.yaml")
