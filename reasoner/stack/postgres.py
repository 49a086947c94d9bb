"""A PostgreSQL server with the database `lake` (Iceberg's catalog), on loopback; data is kept between starts."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from reasoner.errors import CommandFailed
from reasoner.stack.component import Component
from reasoner.stack.settings import LOOPBACK, POSTGRES_DATABASE, POSTGRES_USER, StackSettings

# Accounts that may own the server when this process is root, because PostgreSQL refuses to run as root.
_ACCOUNTS = ("postgres", "nobody")


def postgres_programs() -> Path | None:
    """Return the folder of initdb and postgres, newest version first; None if PostgreSQL is not installed."""
    # Debian installs the programs of each version in a separate folder outside of PATH.
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    on_path = shutil.which("initdb")
    folders = [*debian, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def postgres(settings: StackSettings) -> Component:
    """Return the server."""
    return Component(
        name="postgres",
        folder=_folder(settings),
        prepare=partial(_prepare, _folder(settings)),
        command=partial(_command, settings),
        not_ready_because=partial(_not_ready_because, settings),
        ready_deadline_s=60.0,
        environment=_environment,
        setpriv=partial(_setpriv, _folder(settings)),
        # SIGTERM would wait for every client to disconnect; SIGINT ends their sessions and writes a checkpoint.
        stop_signal=signal.SIGINT,
        ports={"postgres_port": settings.postgres_port},
        endpoints={
            "postgres_jdbc": settings.postgres_jdbc_url,
            "postgres_sqlalchemy": settings.postgres_sqlalchemy_url,
        },
    )


def _folder(settings: StackSettings) -> Path:
    return settings.folder / "postgres"


def _prepare(folder: Path) -> None:
    """Create the database cluster once."""
    folder.mkdir(parents=True, exist_ok=True)
    account = _account()
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, part = folder / "data", folder / "data.part"
    if (data / "PG_VERSION").exists():
        return
    # Create another folder and rename it: an interrupted initdb leaves no incomplete folder that a start would use.
    for old in (part, data):
        shutil.rmtree(old, ignore_errors=True)
    # Authentication `trust`: the server listens on loopback only and holds only the local catalog, and a password would
    # have to be in readable configuration of the jobs.
    options = ["-U", POSTGRES_USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
    done = _run(folder, [_program("initdb"), "-D", str(part), *options])
    if done.returncode != 0:
        message = f"PostgreSQL could not make its data folder {data}: {done.stderr.strip()}"
        raise CommandFailed(message)
    part.rename(data)


def _command(settings: StackSettings) -> list[str]:
    # No socket: its path may not exceed 107 bytes, and the user chooses the folder.
    server = {"listen_addresses": LOOPBACK, "port": settings.postgres_port, "unix_socket_directories": ""}
    options = [part for key, value in server.items() for part in ("-c", f"{key}={value}")]
    return [_program("postgres"), "-D", str(_folder(settings) / "data"), *options]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _not_ready_because(settings: StackSettings) -> str | None:
    """Return None when the database `lake` answers; create the database if the server is new."""
    answer = _psql(settings, POSTGRES_DATABASE, "SELECT 1")
    if answer.returncode == 0:
        return None
    if f'database "{POSTGRES_DATABASE}" does not exist' not in answer.stderr:
        return answer.stderr.strip()
    made = _psql(settings, "postgres", f"CREATE DATABASE {POSTGRES_DATABASE}")
    return f"database {POSTGRES_DATABASE}: {made.stderr.strip() or 'just made'}"


def _psql(settings: StackSettings, database: str, statement: str) -> subprocess.CompletedProcess[str]:
    where = ["-h", LOOPBACK, "-p", str(settings.postgres_port), "-U", POSTGRES_USER, "-d", database, "-w"]
    return _run(_folder(settings), [_program("psql"), "-X", "-q", "-A", "-t", *where, "-c", statement])


def _run(folder: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    setpriv = _setpriv(folder)
    line = ["setpriv", *setpriv, "--", *command] if setpriv else list(command)
    environment = {**_environment(), "LC_ALL": "C"}
    return subprocess.run(
        line, env=environment, cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def _program(name: str) -> str:
    programs = postgres_programs()
    if programs is None:
        message = "PostgreSQL is not installed: install it, on Debian and Ubuntu with `apt-get install postgresql`"
        raise CommandFailed(message)
    return str(programs / name)


def _setpriv(folder: Path) -> Sequence[str]:
    account = _account()
    if account is None:
        return ()
    options = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    if not all(parent.stat().st_mode & stat.S_IXOTH for parent in folder.parents):
        # A checkout in a private or temporary folder: the account must be able to pass the folders above its own.
        options += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return options


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
