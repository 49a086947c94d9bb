"""Errors of commands: exceptions whose text is printed for the person who typed the command."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final


class CommandFailed(Exception):
    """A check or an action that failed. The text states what was found, what was expected and the next step."""

    exit_code = 1


class WrongUse(CommandFailed):
    """A command that was called in a way that cannot work; nothing was done."""

    exit_code = 2


VERBOSE: Final = "--verbose"


def nearest(word: str, names: Iterable[str]) -> str:
    """Return what to type in place of an unknown name: the nearest one that there is, or all of them."""
    known = list(names)
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


# Module of an exception -> what a person checks. Libraries have many classes; their module says what did not work.
_CHECKS: Final = {
    "kafka": "check kafka.bootstrap_servers, kafka.properties and that the broker runs",
    "sqlalchemy": "check lake.uri, lake.user, lake.password_file and that the database runs",
    "psycopg2": "check lake.uri, lake.user, lake.password_file and that the database runs",
    "pyiceberg": "check lake.warehouse and lake.properties; `reasoner tables create` makes missing tables",
    "pyarrow": "check lake.warehouse, lake.s3 and lake.properties",
    "botocore": "check lake.uri, and the region and the keys that the tools of AWS use here",
}


# What the operating system refuses -> the next step.
_STEPS: Final = {
    errno.ENOSPC: "free some space, or choose another place",
    errno.EDQUOT: "free some space, or choose another place",
    errno.EFBIG: "files of this size are not allowed: raise the limit (`ulimit -f`), or choose another place",
    errno.EACCES: "choose a place that this user may read and write, or change its permissions",
    errno.EPERM: "choose a place that this user may read and write, or change its permissions",
    errno.EROFS: "choose a place that can be written",
    errno.ENOENT: "check the path, and the folder in which the command runs",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "name a file",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
}


def reason_of(error: BaseException) -> str:
    """Return what an error says in its first line, for use in a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def sentence_of(error: BaseException) -> str:
    """Return an error that no command expected as a sentence: what happened, and what to check."""
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename else "a file or the output: "
        step = _STEPS.get(error.errno or 0)
        return f"{place}{reason_of(error)}" + (f"; {step}" if step else "")
    name, reason = type(error).__name__, reason_of(error)
    what = name if reason == name else f"{name}: {reason.removeprefix(f'{name}: ')}"
    check = _CHECKS.get(type(error).__module__.partition(".")[0])
    return f"{what}; {check or f'this is a fault of the command: report it with the output of {VERBOSE}'}"
