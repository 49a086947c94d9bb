"""A PostgreSQL server with the database `lake` (Iceberg's catalog), on loopback; data is kept between starts."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from reasoner.errors import CommandFailed
from reasoner.stack.settings import LOOPBACK, StackSettings

__all__ = ["Postgres", "postgres_programs"]

DATABASE = "lake"
USER = "reasoner"
# Accounts that may own the server when this process is root, because PostgreSQL refuses to run as root.
_ACCOUNTS = ("postgres", "nobody")


def postgres_programs() -> Path | None:
    """Return the folder of initdb and postgres, newest version first; None if PostgreSQL is not installed."""
    # Debian installs the programs of each version in a separate folder outside of PATH.
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    on_path = shutil.which("initdb")
    folders = [*debian, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@dataclass(frozen=True, slots=True)
class Postgres:
    """The server; implements Component."""

    settings: StackSettings

    name: ClassVar[str] = "postgres"
    # SIGTERM would wait for every client to disconnect; SIGINT ends their sessions and writes a checkpoint.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    ready_deadline_s: ClassVar[float] = 60.0

    @property
    def folder(self) -> Path:
        return self.settings.folder / "postgres"

    @property
    def ports(self) -> Mapping[str, int]:
        return {"postgres_port": self.settings.postgres_port}

    @property
    def jdbc_url(self) -> str:
        return f"jdbc:postgresql://{LOOPBACK}:{self.settings.postgres_port}/{DATABASE}?user={USER}"

    @property
    def sqlalchemy_url(self) -> str:
        return f"postgresql+psycopg2://{USER}@{LOOPBACK}:{self.settings.postgres_port}/{DATABASE}"

    @property
    def endpoints(self) -> Mapping[str, str]:
        return {"postgres_jdbc": self.jdbc_url, "postgres_sqlalchemy": self.sqlalchemy_url}

    @property
    def setpriv(self) -> Sequence[str]:
        account = _account()
        if account is None:
            return ()
        options = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        if not _others_may_enter(self.folder):
            # A checkout in a private or temporary folder: the account must be able to pass the folders above its own.
            options += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return options

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        """Create the database cluster once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        account = _account()
        if account is not None:
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        if (self._data / "PG_VERSION").exists():
            return
        # Create another folder and rename it: an interrupted initdb leaves no incomplete folder that a start would use.
        part = self.folder / "data.part"
        for folder in (part, self._data):
            shutil.rmtree(folder, ignore_errors=True)
        # Authentication `trust`: the server listens on loopback only and holds only the local catalog, and a password
        # would have to be in readable configuration of the jobs.
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
        done = self._run([self._program("initdb"), "-D", str(part), *options])
        if done.returncode != 0:
            message = f"PostgreSQL could not make its data folder {self._data}: {done.stderr.strip()}"
            raise CommandFailed(message)
        part.rename(self._data)

    def command(self) -> list[str]:
        server_settings = {
            "listen_addresses": LOOPBACK,
            "port": self.settings.postgres_port,
            # No socket: its path may not exceed 107 bytes, and the user chooses the folder.
            "unix_socket_directories": "",
        }
        options = [part for key, value in server_settings.items() for part in ("-c", f"{key}={value}")]
        return [self._program("postgres"), "-D", str(self._data), *options]

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")}

    def not_ready_because(self) -> str | None:
        """Return None when the database `lake` answers; create the database if the server is new."""
        answer = self._psql(DATABASE, "SELECT 1")
        if answer.returncode == 0:
            return None
        if f'database "{DATABASE}" does not exist' not in answer.stderr:
            return answer.stderr.strip()
        made = self._psql("postgres", f"CREATE DATABASE {DATABASE}")
        return f"database {DATABASE}: {made.stderr.strip() or 'just made'}"

    def _psql(self, database: str, statement: str) -> subprocess.CompletedProcess[str]:
        port = str(self.settings.postgres_port)
        where = ["-h", LOOPBACK, "-p", port, "-U", USER, "-d", database, "-w"]
        return self._run([self._program("psql"), "-X", "-q", "-A", "-t", *where, "-c", statement])

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        setpriv = self.setpriv
        line = ["setpriv", *setpriv, "--", *command] if setpriv else list(command)
        environment = {**self.environment(), "LC_ALL": "C"}
        return subprocess.run(
            line, env=environment, cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )

    def _program(self, name: str) -> str:
        programs = postgres_programs()
        if programs is None:
            message = "PostgreSQL is not installed: run `make setup` as root, or `apt-get install postgresql`"
            raise CommandFailed(message)
        return str(programs / name)


def _account() -> pwd.struct_passwd | None:
    """Return the account that runs the server when this process is root; None when it is not root."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    message = f"PostgreSQL cannot run as root, and there is none of the accounts {', '.join(_ACCOUNTS)}; add one"
    raise CommandFailed(message)


def _others_may_enter(folder: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in folder.parents)
