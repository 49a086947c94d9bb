"""docker-compose.yml: what the parser of Docker Compose says, and what each service promises."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from jobs.settings import load
from reasoner.folders import tools
from tests.support.parts import skip_unless_made

ROOT: Final = Path(__file__).parents[4]
FILE: Final = ROOT / "docker-compose.yml"
COMPOSE: Final = yaml.safe_load(FILE.read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
LIMIT_S: Final = 60.0  # of a command
_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+):-([^}]*)\}")

each_service = pytest.mark.parametrize("name", SERVICES)


def with_defaults(text: str) -> str:
    """Return the text with the defaults of its variables."""
    return _VARIABLE.sub(r"\2", text)


def images(name: str) -> list[str]:
    """Return the images that a service pulls or is built on."""
    service = SERVICES[name]
    arguments = service.get("build", {}).get("args", {})
    pulled = [value for key, value in arguments.items() if key in ("BASE", "IMAGE", "BUSYBOX")]
    return [with_defaults(image) for image in (pulled or [service["image"]])]


def test_parser_of_docker_compose_takes_the_file_with_all_profiles() -> None:
    program = tools() / "compose-check" / "compose-check"
    skip_unless_made(program)
    done = subprocess.run([program, FILE], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["services"]) == set(SERVICES)


@each_service
def test_images_are_pinned_by_version(name: str) -> None:
    for image in images(name):
        assert re.fullmatch(r"docker\.io/[a-z/-]+:v?[a-z-]*[0-9][0-9a-z.-]+", image), image


@each_service
def test_service_has_a_health_check_unless_it_ends(name: str) -> None:
    service = SERVICES[name]
    check = service["healthcheck"]
    assert check.get("disable", False) == (service["restart"] == "no")
    assert check.get("disable") or check["test"][0] == "CMD"


@each_service
def test_service_is_limited_and_without_rights(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service)
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert service.get("read_only") or name == "kafka", "expected a root that is read-only"


@each_service
def test_environment_holds_no_secret(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|SECRET|TOKEN|CREDENTIAL|TLS_", key):
            assert value.startswith("/run/secrets/"), key
        assert not re.search("password|secret[-_.]?key|access[-_.]key", str(value).replace("/run/secrets/", "")) or (
            key.endswith("_FILE") or "__FILE" in key
        ), key


@each_service
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert with_defaults(port).startswith("127.0.0.1:"), port


@each_service
def test_mounted_files_are_in_the_repository(name: str) -> None:
    for mount in SERVICES[name].get("volumes", ()):
        source, _, target = mount.partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert target.endswith(":ro"), f"{source} is mounted with write access"
        elif target:
            assert source in COMPOSE["volumes"], source


@each_service
def test_what_a_service_waits_for_is_in_each_of_its_profiles(name: str) -> None:
    service = SERVICES[name]
    for before in service.get("depends_on", {}):
        assert set(service["profiles"]) <= set(SERVICES[before]["profiles"]), before


def test_no_state_of_flink_is_in_memory() -> None:
    """Catch state, or the journal of jobs, on the container's /tmp or its root, which is read-only."""
    properties = yaml.safe_load(COMPOSE["x-flink"]["FLINK_PROPERTIES"])
    written = [properties["io.tmp.dirs"], properties["state.backend.rocksdb.localdir"]]
    written += [SERVICES[name]["environment"]["XDG_STATE_HOME"] for name in ("submit", "reasoner")]
    assert {Path(folder).parts[:4] for folder in written} == {("/", "var", "lib", "flink")}
    assert "--owner flink --group flink /var/lib/flink" in (ROOT / "deploy/images/job/Dockerfile").read_text()
    for name in ("jobmanager", "session", "taskmanager", "submit", "reasoner"):
        assert "/var/lib/flink" in [mount.partition(":")[2] for mount in SERVICES[name]["volumes"]], name


def test_example_of_variables_is_complete_and_has_the_defaults() -> None:
    lines = [
        line.partition("=") for line in (ROOT / ".env.example").read_text().splitlines() if re.match("[A-Z]", line)
    ]
    example = {name: value for name, _, value in lines if name != "COMPOSE_PROFILES"}
    defaults = dict(_VARIABLE.findall(FILE.read_text()))
    others = {name for name in defaults if name.endswith("_IMAGE")} | {"GATEWAY_CONFIG"}  # commented in the example
    assert example == {name: value for name, value in defaults.items() if name not in others}


def test_properties_of_flink_are_lines_of_a_name_and_a_value() -> None:
    """Catch a comment or a broken line among them, from which the entry point made an option that Flink refuses."""
    for line in with_defaults(COMPOSE["x-flink"]["FLINK_PROPERTIES"]).splitlines():
        assert re.fullmatch(r"[a-z0-9.-]+: \S+", line), line


def test_job_fits_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(ROOT / "deploy/compose/job.yaml")
    kafka = SERVICES["kafka"]["environment"]
    assert f"INTERNAL://{config.kafka.bootstrap_servers}," in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert config.kafka.transaction_timeout_ms <= int(kafka["KAFKA_TRANSACTION_MAX_TIMEOUT_MS"])
    assert str(config.lake.password_file) == SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"]
    slots = yaml.safe_load((ROOT / "flink-conf/config.yaml").read_text())["taskmanager.numberOfTaskSlots"]
    assert config.engine.parallelism <= slots


def test_secrets_are_made_once_and_readable_by_containers(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    for name in ("compose/secrets.sh", "collector/certificates.sh"):
        (tmp_path / "deploy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "deploy" / name, tmp_path / "deploy" / name)
    command = ["bash", str(tmp_path / "deploy/compose/secrets.sh")]
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
    files = [tmp_path / entry["file"] for entry in COMPOSE["secrets"].values()]
    made = {file: file.read_bytes() for file in files}
    assert all(made.values())
    assert {oct(file.stat().st_mode)[-3:] for file in files} == {"444"}
    assert oct((tmp_path / "deploy/compose/secrets").stat().st_mode)[-3:] == "700"
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
    assert {file: file.read_bytes() for file in files} == made
    assert {entry for service in SERVICES.values() for entry in service.get("secrets", ())} == set(COMPOSE["secrets"])


def test_no_secret_is_committed() -> None:
    command = ["git", "ls-files", "deploy/compose/secrets", ".env"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if not (ROOT / ".git").exists() or "GIT_DIR" in os.environ:
        pytest.skip("not in a checkout of git")
    assert not tracked.stdout
