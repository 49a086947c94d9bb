"""docker-compose.yml by podman-compose: services in the order of `depends_on`, each when those before are healthy."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Final

import yaml

from reasoner.errors import CommandFailed
from reasoner.folders import tools
from reasoner.waiting import wait_until

READY_DEADLINE_S: Final = 300.0  # a JobManager on two busy cores; 20 s on idle ones
BUILD_LIMIT_S: Final = 1_800.0
_LIMIT_S: Final = 120.0  # of any other command; `restart` gives a container 10 s to end
_CONTAINERS_CONF: Final = """
[engine]
runtime = "runc"  # crun refuses control groups in hybrid mode
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=32768:32768"]  # more than a container may ask for is refused
"""


def podman_environment(folder: Path) -> dict[str, str]:
    """Return an environment in which podman and buildah keep images of this checkout apart from the machine's."""
    (folder / "containers.conf").write_text(_CONTAINERS_CONF)
    home = tools() / "podman"  # both places are in podman's database, so they are the same each time
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "{os.environ.get("STORAGE_DRIVER", "overlay")}"\n'
        f'runroot = "{home}/run"\ngraphroot = "{home}/storage"\n'
    )
    return {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",  # needs no control groups
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }


def run(
    command: Sequence[str], environment: Mapping[str, str], *, folder: Path | None = None, limit_s: float = _LIMIT_S
) -> str:
    """Return what a command prints. Raises CommandFailed with the end of its errors, or after `limit_s`."""
    called = f"{' '.join(command[:6])} …"
    try:
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired as error:
        message = f"{called} has not ended within {limit_s:.0f} s"
        raise CommandFailed(message) from error
    if done.returncode:
        message = f"{called} ended with {done.returncode}: {(done.stderr or done.stdout)[-3_000:]}"
        raise CommandFailed(message)
    return done.stdout


@dataclass(frozen=True)
class Composed:
    """The services of one profile as containers of a project of their own.

    checkout: folder of docker-compose.yml. variables: file in the form of .env.
    """

    checkout: Path
    project: str
    profile: str
    variables: Path
    environment: Mapping[str, str]

    @property
    def services(self) -> dict[str, Any]:
        """Return the services of the profile by name."""
        every = yaml.safe_load((self.checkout / "docker-compose.yml").read_text())["services"]
        return {name: service for name, service in every.items() if self.profile in service["profiles"]}

    def values(self) -> dict[str, str]:
        """Return the variables by name."""
        return dict(line.split("=", 1) for line in self.variables.read_text().split())

    def up(self) -> None:
        """Start all services in the order of `depends_on`, and wait until each is ready.

        Podman of Debian 12 has no scheduler for health checks, so this runs them itself.
        """
        before = {name: set(service.get("depends_on", ())) for name, service in self.services.items()}
        order = TopologicalSorter(before)
        order.prepare()
        while names := order.get_ready():
            self._compose("up", "--detach", "--no-build", "--no-deps", *names)
            for name in names:
                self.wait_until_ready(name)
            order.done(*names)

    def wait_until_ready(self, name: str) -> None:
        """Wait until the health check of a service succeeds; until it has ended, where it ends by itself."""
        ends = self.services[name].get("healthcheck", {}).get("disable", False)

        def ready() -> bool:
            if not ends:
                return self._succeeds("healthcheck", "run", self.container(name))
            state = self.state(name)
            if state["Status"] == "exited" and state["ExitCode"]:
                message = f"{name} ended with {state['ExitCode']}: {self.logs(name)}"
                raise CommandFailed(message)
            return bool(state["Status"] == "exited")

        try:
            wait_until(ready, f"{name} is ready", READY_DEADLINE_S, 1.0)
        except CommandFailed as late:
            message = f"{late}; its last lines:\n{self.logs(name)}"
            raise CommandFailed(message) from late

    def restart(self, name: str) -> None:
        """Stop the container and start it again; return when it is healthy, or has ended where it ends by itself."""
        self.podman("restart", "--time", "10", self.container(name))
        self.wait_until_ready(name)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self._compose("down", "--volumes", "--timeout", "0")  # nothing of them is kept

    def container(self, name: str) -> str:
        return f"{self.project}_{name}_1"

    def state(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.podman("inspect", self.container(name)))[0]["State"])

    def logs(self, name: str) -> str:
        done = subprocess.run(
            ["podman", "logs", "--tail", "30", self.container(name)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
        return done.stdout

    def podman(self, *arguments: str) -> str:
        return run(["podman", *arguments], self.environment)

    def _succeeds(self, *arguments: str) -> bool:
        try:
            run(["podman", *arguments], self.environment)
        except CommandFailed:
            return False
        return True

    def _compose(self, *arguments: str) -> str:
        compose = str(tools() / "podman" / "bin" / "podman-compose")
        options = ["--project-name", self.project, "--env-file", str(self.variables), "--profile", self.profile]
        return run([compose, *options, *arguments], self.environment, folder=self.checkout)
