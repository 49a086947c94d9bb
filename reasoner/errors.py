"""Errors of commands: exceptions whose text is printed for the person who typed the command."""

from typing import Final


class CommandFailed(Exception):
    """A check or an action that failed. The text states what was found, what was expected and the next step."""

    exit_code = 1


class WrongUse(CommandFailed):
    """A command that was called in a way that cannot work; nothing was done."""

    exit_code = 2


VERBOSE: Final = "--verbose"
# Module of an exception -> what a person checks. Libraries have many classes; their module says what did not work.
_CHECKS: Final = {
    "kafka": "check kafka.bootstrap_servers, kafka.properties and that the broker runs",
    "sqlalchemy": "check lake.uri, lake.user, lake.password_file and that the database runs",
    "psycopg2": "check lake.uri, lake.user, lake.password_file and that the database runs",
    "pyiceberg": "check lake.warehouse and lake.properties; `reasoner tables create` makes missing tables",
    "pyarrow": "check lake.warehouse and lake.properties",
}


def sentence_of(error: BaseException) -> str:
    """Return an error that no command expected as a sentence: what happened, and what to check."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    name = type(error).__name__
    what = f"{name}: {reason.removeprefix(f'{name}: ')}" if reason else name
    check = _CHECKS.get(type(error).__module__.partition(".")[0])
    return f"{what}; {check or f'this is a fault of the command: report it with the output of {VERBOSE}'}"
