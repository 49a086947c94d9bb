"""A Redis server with an append-only file, on loopback; its content is kept between starts.

It wants a password, so that other users of the machine do not read what it holds. The password stands in a file.
"""

import secrets
import socket
from functools import partial
from pathlib import Path

from reasoner.errors import reason_of
from reasoner.stack.component import Component
from reasoner.stack.environment import redis_server
from reasoner.stack.secret_files import write_secret
from reasoner.stack.settings import LOOPBACK, StackSettings

_CONFIGURATION = """\
bind {host}
port {port}
dir {data}
# Each second what was written is on disk; without snapshots beside it there is one file to restore from.
appendonly yes
appendfsync everysec
save ""
requirepass {password}
"""


def redis(settings: StackSettings) -> Component:
    """Return the server."""
    folder = settings.folder / "redis"
    return Component(
        name="redis",
        folder=folder,
        prepare=partial(_prepare, settings, folder),
        command=lambda: [str(redis_server()), str(folder / "redis.conf")],
        not_ready_because=partial(_not_ready_because, settings, folder),
        ports={"redis_port": settings.redis_port},
        endpoints={"redis": settings.redis_url, "redis_password": str(folder / "password")},
    )


def _prepare(settings: StackSettings, folder: Path) -> None:
    data, configuration = folder / "data", folder / "redis.conf"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(folder / "password", secrets.token_urlsafe(30))
    password = (folder / "password").read_text()
    configuration.unlink(missing_ok=True)
    text = _CONFIGURATION.format(host=LOOPBACK, port=settings.redis_port, data=data, password=password)
    write_secret(configuration, text)


def _not_ready_because(settings: StackSettings, folder: Path) -> str | None:
    """Return None when the server answers, which it does not while it reads its file."""
    request = f"AUTH {(folder / 'password').read_text()}\r\nPING\r\n"
    try:
        with socket.create_connection((LOOPBACK, settings.redis_port), timeout=1.0) as connection:
            connection.sendall(request.encode())
            with connection.makefile() as answers:
                found = [answers.readline().strip(), answers.readline().strip()]
    except OSError as error:
        return f"no answer on {settings.redis_url} ({reason_of(error)})"
    return None if found == ["+OK", "+PONG"] else f"{settings.redis_url} answers {found}"
