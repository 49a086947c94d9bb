"""A job on a catalog of Glue, as far as it can be had: moto answers for AWS, and both clients of Iceberg are real.

Keys come as AWS's own tools take them, without a setting.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest

from reasoner.clients.flink_rest import FlinkRest
from reasoner.folders import checkout, tools
from reasoner.runs.job_process import write_config
from reasoner.stack import RunningStack
from reasoner.stack.component import Component
from reasoner.stack.s3 import credentials_file
from reasoner.stack.settings import free_ports
from state_schemas.contracts.tables import TABLES
from tests.deploy.store.conftest import config_on_s3, played
from tests.faults.terminal import Person
from tests.services.job_runs import ClusterJob
from tests.support.servers import not_answering, serving
from tests.support.submitted import outcome

pytestmark = pytest.mark.deploy

NAME: Final = "glued"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Install boto3 and moto by hash into a folder of their own: no test but this one may find them."""
    root = checkout()
    assert root is not None, "tests run in a checkout"
    folder = tmp_path / "packages"
    command = [str(tools() / "uv" / "bin" / "uv"), "pip", "install", "--quiet", "--require-hashes"]
    lock = ["-r", str(root / "locks" / "glue.txt"), "--python", sys.executable, "--target", str(folder)]
    done = subprocess.run([*command, *lock], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"boto3 and moto could not be installed: {done.stderr.strip()[-300:]}")
    return folder


@pytest.fixture
def glue(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start moto with an empty Glue; yield its address. boto3 can be imported here and by the commands of the test."""
    boto = tmp_path / "boto"
    boto.mkdir()
    for name in ("boto3", "botocore", "s3transfer", "jmespath"):  # what a user of the extra `glue` has more
        (boto / name).symlink_to(packages / name)
    monkeypatch.setenv("PYTHONPATH", str(boto))
    monkeypatch.syspath_prepend(str(boto))
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    uri = f"http://127.0.0.1:{port}"
    moto = Component(
        name="moto",
        folder=tmp_path / "moto",
        command=lambda: command,
        environment=lambda: {**os.environ, "PYTHONPATH": str(packages)},
        prepare=(tmp_path / "moto").mkdir,
        not_ready_because=partial(not_answering, f"{uri}/moto-api/data.json", HTTPStatus.OK),
    )
    with serving(moto):
        yield uri


def test_glue(
    glue: str, stack: RunningStack, tmp_path: Path, verdict: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials_file(stack.settings)))
    config = config_on_s3(
        stack,
        NAME,
        tmp_path,
        uri="glue:us-east-1",
        s3={"endpoint": stack.settings.s3_url},
        properties={"glue.endpoint": glue},
    )
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
    file = write_config(config, tmp_path / f"{NAME}.yaml")
    person = Person(tmp_path, stack, file)
    made = person.run("tables", "create", "--config", str(file))
    assert made.splitlines() == [f"{spec.name}: created" for spec in TABLES]
    messages = played(job, person, file)
    verdict |= {"catalog": "moto 5.2.5 in place of AWS Glue", **outcome(job, messages)}
    verdict["pass"] = True
