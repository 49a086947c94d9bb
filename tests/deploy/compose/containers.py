"""docker-compose.yml by podman-compose: services in the order of `depends_on`, each when those before are healthy."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from reasoner.errors import CommandFailed
from reasoner.folders import tools
from reasoner.waiting import wait_until

READY_DEADLINE_S: Final = 300.0  # a JobManager on two busy cores; 20 s on idle ones
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


def run(command: Sequence[str], environment: Mapping[str, str], *, folder: Path | None = None) -> str:
    """Return what a command prints. Raises CommandFailed with the end of its errors."""
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{' '.join(command[:6])} … ended with {done.returncode}: {(done.stderr or done.stdout)[-3_000:]}"
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

    def up(self) -> None:
        """Start all services. Podman of Debian 12 has no scheduler for health checks, so this runs them itself."""
        started: set[str] = set()
        services = self.services

        def start(name: str) -> None:
            if name not in started:
                for before in services[name].get("depends_on", {}):
                    start(before)
                started.add(name)
                self._compose("up", "--detach", "--no-build", "--no-deps", name)
                self.wait_until_ready(name)

        for name in services:
            start(name)

    def wait_until_ready(self, name: str) -> None:
        """Wait until the health check of a service succeeds; until it has ended, where it ends by itself."""
        ends = self.services[name].get("healthcheck", {}).get("disable", False)

        def ready() -> bool:
            state = self.state(name)
            if not ends:
                return self._succeeds("healthcheck", "run", self.container(name))
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
        """Stop the container and start it again; return when it is healthy."""
        self.podman("restart", "--time", "10", self.container(name))
        self.wait_until_ready(name)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self._compose("down", "--volumes", "--timeout", "5")

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
        )
        return done.stdout

    def podman(self, *arguments: str) -> str:
        return run(["podman", *arguments], self.environment)

    def _succeeds(self, *arguments: str) -> bool:
        done = subprocess.run(["podman", *arguments], env=self.environment, capture_output=True, check=False)
        return done.returncode == 0

    def _compose(self, *arguments: str) -> str:
        compose = str(tools() / "podman" / "bin" / "podman-compose")
        options = ["--project-name", self.project, "--env-file", str(self.variables), "--profile", self.profile]
        return run([compose, *options, *arguments], self.environment, folder=self.checkout)
