"""Settings of the lake on S3, REST and Glue: what both clients of Iceberg get of them, and which faults are said."""

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyflink.util.exceptions import JavaException

from jobs.flink_tables import attach
from jobs.lake_catalog import catalog_options, without_secrets
from jobs.settings import JobConfig, load
from reasoner.clients import lake as client
from reasoner.clients.flink_rest import FlinkRest
from reasoner.errors import CommandFailed
from reasoner.runs.preflight import Preflight
from state_schemas.contracts.settings import BadConfig, Lake
from tests.support.fake_tables import FakeTables

JDBC = {"uri": "jdbc:postgresql://db/lake", "warehouse": "s3://warehouse/lake"}
REST = {"uri": "https://catalog/api", "warehouse": "main"}
GLUE = {"uri": "glue:eu-west-1", "warehouse": "s3://warehouse/lake"}
PROFILE = "[default]\naws_access_key_id = AKIA\naws_secret_access_key = s3cr=t%\n"


def faults_of(tmp_path: Path, lake: dict[str, Any]) -> list[str]:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"lake": lake}))
    with pytest.raises(BadConfig) as caught:
        load(path)
    return [line.strip() for line in str(caught.value).splitlines()[1:-1]]


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_settings_of_a_database_and_a_folder_give_the_options_that_they_gave() -> None:
    lake = Lake(uri="jdbc:sqlite:/c.db", warehouse="file:///w", properties={"x": "y"})
    assert catalog_options(lake) == {
        "type": "iceberg",
        "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        "uri": "jdbc:sqlite:/c.db",
        "warehouse": "file:///w",
        "jdbc.schema-version": "V1",
        "x": "y",
    }


def test_keys_of_s3_reach_both_clients_from_the_file(tmp_path: Path) -> None:
    s3 = {"endpoint": "http://store:7070", "credentials_file": written(tmp_path, "credentials", PROFILE)}
    sqlite = {"uri": f"jdbc:sqlite:{tmp_path}/c.db", "warehouse": "s3://warehouse/lake"}
    lake = Lake.model_validate({**sqlite, "s3": s3})
    wanted = {
        "s3.endpoint": "http://store:7070",
        "s3.path-style-access": "true",
        "client.region": "us-east-1",
        "s3.access-key-id": "AKIA",
        "s3.secret-access-key": "s3cr=t%",
    }
    assert wanted.items() <= client.catalog(lake).properties.items()
    of_flink = catalog_options(lake)
    assert of_flink.items() >= {**wanted, "io-impl": "org.apache.iceberg.aws.s3.S3FileIO"}.items()


def test_without_an_endpoint_and_a_file_address_and_keys_are_left_to_the_clients() -> None:
    assert not [name for name in catalog_options(Lake.model_validate(JDBC)) if name.startswith(("s3.", "client."))]


def test_properties_override_what_is_derived() -> None:
    found = catalog_options(Lake.model_validate({**JDBC, "properties": {"io-impl": "my.IO"}}))
    assert found["io-impl"] == "my.IO"


def test_a_rest_catalog_gets_its_token_from_a_file(tmp_path: Path) -> None:
    lake = Lake.model_validate({**REST, "token_file": written(tmp_path, "token", "t0ken\n")})
    found = catalog_options(lake)
    assert (found["catalog-impl"], found["uri"]) == ("org.apache.iceberg.rest.RESTCatalog", "https://catalog/api")
    assert (found["token"], found["warehouse"]) == ("t0ken", "main")
    assert "jdbc.schema-version" not in found


def test_a_client_of_oauth2_asks_the_catalog_for_a_token_unless_another_server_is_named(tmp_path: Path) -> None:
    by_credential = {**REST, "credential_file": written(tmp_path, "credential", "me:secret")}
    found = catalog_options(Lake.model_validate(by_credential))
    assert (found["credential"], found["oauth2-server-uri"]) == ("me:secret", "https://catalog/api/v1/oauth/tokens")
    elsewhere = {"properties": {"oauth2-server-uri": "https://login/token"}}
    assert catalog_options(Lake.model_validate(by_credential | elsewhere))["oauth2-server-uri"] == "https://login/token"


def test_glue_takes_its_region_from_the_address() -> None:
    found = catalog_options(Lake.model_validate(GLUE))
    assert found == {
        "type": "iceberg",
        "catalog-impl": "org.apache.iceberg.aws.glue.GlueCatalog",
        "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        "warehouse": "s3://warehouse/lake",
        "client.region": "eu-west-1",
    }


def test_all_faults_of_the_lake_are_in_one_message(tmp_path: Path) -> None:
    found = faults_of(
        tmp_path,
        {**GLUE, "warehouse": "warehouse", "user": "me", "token_file": "t", "s3": {"credentials_file": "c"}},
    )
    assert found == [
        "lake.warehouse: found 'warehouse': expected file:///, s3://, s3a://, gs://, abfs:// with a name behind it",
        "lake.user: found it with a Glue catalog; only a JDBC catalog reads it",
        "lake.token_file: found it with a Glue catalog; only a REST catalog reads it",
        "lake.s3.credentials_file: found one with a catalog of Glue, which takes its keys from the environment, the "
        "files of AWS's own tools, or a role: name the file with AWS_SHARED_CREDENTIALS_FILE",
    ]


def test_s3_settings_for_a_folder_are_a_fault(tmp_path: Path) -> None:
    lake = {"uri": "jdbc:sqlite:c.db", "warehouse": "file:///w", "s3": {"endpoint": "http://store"}}
    assert faults_of(tmp_path, lake) == ["lake.s3: found settings of S3 with the warehouse file:///w, expected s3://…"]


def test_a_password_in_the_address_of_a_catalog_is_refused_and_not_printed(tmp_path: Path) -> None:
    assert faults_of(tmp_path, {**REST, "uri": "https://me:secret@catalog"}) == [
        "lake.uri: found a user or password in it, expected lake.token_file or lake.credential_file"
    ]


@pytest.mark.parametrize(
    "text", ["", "aws_secret_access_key = s3cr=t%", PROFILE.replace("default", "other"), "[default"]
)
def test_a_file_of_keys_that_cannot_be_read_is_said_without_its_text(tmp_path: Path, text: str) -> None:
    s3 = {"credentials_file": written(tmp_path, "credentials", text)}
    with pytest.raises(BadConfig, match="has no profile that can be read") as caught:
        catalog_options(Lake.model_validate({**JDBC, "s3": s3}))
    assert "s3cr" not in str(caught.value)


def test_the_reason_why_flink_makes_no_catalog_holds_no_secret(tmp_path: Path) -> None:
    lake = {**REST, "credential_file": written(tmp_path, "credential", "me:secret")}

    class Refusing(FakeTables):
        def execute_sql(self, sql: str) -> None:
            said = f"Unable to create catalog 'lake'. {sql}\nCaused by: it is full"
            raise JavaException(said)

    with pytest.raises(JavaException, match="Caused by: it is full") as caught:
        attach(Refusing(), {}, JobConfig.model_validate({"lake": lake}))
    assert "'credential'='******'" in str(caught.value)
    assert "me:secret" not in str(caught.value)


def test_an_at_sign_behind_the_name_of_the_host_is_no_user() -> None:
    for uri in ("https://h/api?user=a@b", "https://h/@main"):
        assert Lake.model_validate({**REST, "uri": uri}).uri == uri


def test_every_value_under_the_name_of_a_secret_is_hidden() -> None:
    options = {
        "adls.account-key": "k3y",
        "gcs.oauth2.token": "k3y-and-more",
        "header.Authorization": "Bearer b3arer",
        "token": "",
        "token-refresh-enabled": "true",
        "warehouse": "main",
    }
    said = "it is true that k3y, k3y-and-more and Bearer b3arer are of main"
    assert without_secrets(said, options) == "it is true that ******, ****** and ****** are of main"


def test_a_catalog_that_accepts_and_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reasoner.clients.rest_catalog._LIMITS_S", (1.0, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lake = Lake(uri=f"http://127.0.0.1:{silent.getsockname()[1]}", warehouse="")
        with pytest.raises(CommandFailed, match=r"does not answer as expected .*[Tt]imed? ?out.*; check lake.uri"):
            client.create_tables(lake)


def test_tables_on_s3_need_a_jar_of_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr("reasoner.runs.preflight.flink_home", lambda: tmp_path)
    monkeypatch.setattr("reasoner.clients.lake.missing_tables", lambda _: [])

    def faults(lake: dict[str, str]) -> list[str]:
        config = JobConfig.model_validate({"lake": lake})
        return list(Preflight("insights", config, "job.yaml", FlinkRest(""), "client").table_faults())

    assert "run `reasoner setup s3`" in "".join(faults(JDBC))
    assert "run `reasoner setup s3`" in "".join(faults(GLUE))
    assert faults({**JDBC, "warehouse": "file:///w"}) == []
    (tmp_path / "lib" / "iceberg-aws-bundle-1.jar").touch()
    assert faults(JDBC) == []
