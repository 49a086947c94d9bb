"""A server of a test for the time of a `with` body, started and ended by the supervisor of the stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError

from reasoner.stack.component import Component
from reasoner.stack.loopback import answer_of
from reasoner.stack.supervisor import Supervisor


@contextmanager
def serving(server: Component) -> Iterator[None]:
    """Wait until the server is ready, and end it after the `with` body. Its folder is one of its own in another."""
    supervisor = Supervisor(server.folder.parent, die_with_parent=True)
    supervisor.up([server])
    try:
        yield
    finally:
        supervisor.down([server.name])


def not_answering(url: str, status: int) -> str | None:
    """Return why the server does not answer with this status, None if it does."""
    try:
        with answer_of(url, 2.0) as answer:
            found = answer.status
    except HTTPError as error:
        with error:
            found = error.code
    except OSError as error:
        return f"no answer on {url} ({error})"
    return None if found == status else f"{url} answers {found}, not {status}"
