"""Images of the test: our Dockerfiles on a base that debootstrap makes, and stand-ins for public images."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from reasoner.folders import tools
from reasoner.stack.environment import kafka_jars
from tests.deploy.compose.containers import BUILD_LIMIT_S, run

BASE: Final = "localhost/debian:bookworm"
JOB: Final = "localhost/metric-reasoner:0.1.0"
COLLECTOR: Final = "localhost/metric-reasoner-otelcol:0.158.0"
# Variable of docker-compose.yml -> target of `images/Dockerfile`.
STAND_INS: Final = {
    "BUSYBOX_IMAGE": "busybox",
    "COLLECTOR_IMAGE": "collector",
    "KAFKA_IMAGE": "kafka",
    "POSTGRES_IMAGE": "postgres",
    "REDIS_IMAGE": "redis",
    "S3_IMAGE": "s3",
}
PROGRAMS: Final = {"versitygw": "s3/versitygw", "otelcol": "collector/otelcol"}
_CONTEXT: Final = Path(__file__).parent / "images"
_MIRROR: Final = "http://deb.debian.org/debian"
# Certificates that this machine trusts beside those of Debian, such as that of a proxy.
_OWN_CERTIFICATES: Final = Path("/usr/local/share/ca-certificates")


def stand_in(target: str) -> str:
    return f"localhost/stand-in-{target}:test"


def missing_programs() -> list[str]:
    """Return what has not been built: the parts of `reasoner/stack/setup.sh` that the images need."""
    parts = {Path(path).parts[0] for path in PROGRAMS.values() if not (tools() / path).exists()}
    return sorted(parts | ({"podman"} if not (tools() / "podman/bin/podman-compose").exists() else set()))


def build(checkout: Path, environment: Mapping[str, str], folder: Path) -> None:
    """Build every image that the profile core needs; what has not changed comes from the layers of the last run."""
    if BASE not in run(["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"], environment):
        _make_base(environment, folder)
    arguments = {"BASE": BASE}
    _bud(environment, checkout, JOB, arguments, *_certificates(folder), "--file", "deploy/images/job/Dockerfile")
    context = shutil.copytree(_CONTEXT, folder / "context")
    shutil.copytree(kafka_jars(), context / "kafka")
    for name, path in PROGRAMS.items():
        shutil.copy(tools() / path, context / name)
    for target in STAND_INS.values():
        _bud(environment, context, stand_in(target), arguments | {"JOB": JOB}, "--target", target)
    owner = {"DATA": "/var/lib/otelcol", "OWNER": "10001:10001"}
    images = {"IMAGE": stand_in("collector"), "BUSYBOX": stand_in("busybox")}
    _bud(environment, checkout / "deploy/images/probed", COLLECTOR, owner | images)


def _bud(environment: Mapping[str, str], context: Path, tag: str, arguments: Mapping[str, str], *options: str) -> None:
    given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    run(
        ["buildah", "build", "--layers", "--tag", tag, *given, *options, "."],
        environment,
        folder=context,
        limit_s=BUILD_LIMIT_S,
    )


def _certificates(folder: Path) -> list[str]:
    """Return the build secret with the certificates that this machine trusts on top; none where there are none."""
    own = sorted(_OWN_CERTIFICATES.glob("*.crt"))
    if not own:
        return []
    # Java's store takes one certificate from a file: the last one that was added is that of the proxy.
    newest = max(own, key=lambda path: path.stat().st_mtime)
    return ["--secret", f"id=ca,src={shutil.copy(newest, folder / 'ca.crt')}"]


def _make_base(environment: Mapping[str, str], folder: Path) -> None:
    root = folder / "debian"
    run(["debootstrap", "--variant=minbase", "bookworm", str(root), _MIRROR], os.environ, limit_s=BUILD_LIMIT_S)
    run(["tar", "--directory", str(root), "--create", "--file", str(folder / "debian.tar"), "."], os.environ)
    run(["podman", "import", str(folder / "debian.tar"), BASE], environment)
    shutil.rmtree(root)
    (folder / "debian.tar").unlink()
