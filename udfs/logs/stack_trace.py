"""Parser of stack traces: the exception, and the frames of the program itself. Time is linear in the text."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["TRACE_CHARS_MAX", "ParsedException", "exception_in"]

FRAMES_MAX: Final = 3
TRACE_CHARS_MAX: Final = 16_384

# Signs that may stand in a name beside letters, digits and `_`, for `str.translate`: it deletes them.
_TYPE_SIGNS: Final = str.maketrans("", "", "_$.")
_CALL_SIGNS: Final = str.maketrans("", "", "_$.<>/ []")
_GO_SIGNS: Final = frozenset("_./*()-")
_THREAD: Final = 'Exception in thread "'
_CAUSE: Final = "Caused by: "
# Libraries and runtimes of the JVM, Python, Node, Go, .NET. Their frames are left out: they show no place to fix.
_FOREIGN_STARTS: Final = (
    *("java.", "javax.", "jdk.", "sun.", "com.sun.", "kotlin.", "scala.", "akka.", "reactor.", "io.netty.", "okhttp3."),
    *("feign.", "lombok.", "junit.", "org.spring", "org.apache", "org.hibernate", "org.eclipse", "org.jboss"),
    *("org.postgresql", "org.mongodb", "com.mysql", "com.zaxxer", "com.fasterxml", "com.google.common", "com.mongodb"),
    *("System.", "Microsoft.", "net/http", "runtime", "node:", "internal/", "Object.", "Module.", "process."),
    "new Promise",
)
_FOREIGN_PARTS: Final = (
    *("site-packages", "dist-packages", "/lib/python", "node_modules", "$$", "$Proxy", "GeneratedMethodAccessor"),
)


class ParsedException(NamedTuple):
    """Exception of a stack trace."""

    type: str
    message: str
    # The innermost frames of the program itself, the innermost first; where there are none, the innermost of all.
    frames: tuple[str, ...]


class _Frame(NamedTuple):
    """A frame of a stack. The line number is left out: it changes with each release."""

    function: str
    # Shows whether the frame is of a library: the function, with its file where the line has one.
    location: str


def exception_in(text: str) -> ParsedException | None:
    """Return the exception of a text with a stack trace; None where the text has no frame. O(TRACE_CHARS_MAX)."""
    text = text[:TRACE_CHARS_MAX]
    lines = text.split("\n")
    for frames_in, newest_last in _LANGUAGES:
        found = list(frames_in(lines))
        if not found:
            continue
        headers = text.splitlines()
        first_line = headers[0]
        if newest_last:
            found.reverse()
            headers.reverse()
        own = [frame.function for frame in found if not _is_foreign(frame.location)] or [found[0].function]
        kind, message = next(filter(None, map(_header, headers)), ("", first_line))
        return ParsedException(kind, message, tuple(dict.fromkeys(own))[:FRAMES_MAX])
    return None


def _is_type_name(name: str) -> bool:
    """Return whether a name is one of a type, with its package: `java.io.IOException`."""
    first = name[:1]
    return (first in ("_", "$") or (first.isascii() and first.isalpha())) and _is_alnum(name.translate(_TYPE_SIGNS))


def _header(line: str) -> tuple[str, str] | None:
    """Return (type, message) of a line that names an exception."""
    line = line.strip().removeprefix(_CAUSE)
    if line.startswith(_THREAD):
        rest = line[len(_THREAD) :].partition('"')[2]
        line = rest[1:] if rest.startswith(" ") else ""
    kind, _, message = line.partition(": ")
    return (kind, message) if _is_type_name(kind) else None


def _calls(lines: Sequence[str]) -> Iterator[_Frame]:
    """Yield the frames of Java, .NET and JavaScript: `at package.Type.method(File:12)`."""
    for line in lines:
        call = line.lstrip(" \t")
        if call.startswith("at ") and len(call) < len(line):
            name = _called(call[3:].removeprefix("async ")) or _called(call[3:])
            if name:
                yield _Frame(name, name)


def _called(call: str) -> str:
    """Return the function of a call, up to its bracket, or the `in` of .NET; "" where there is none."""
    name, bracket, _ = call.partition("(")
    end = name.find(" in ", 1)
    if end > 0:
        name = name[:end]
    elif not bracket and not name:
        return ""
    return name.strip() if _is_alnum(name.translate(_CALL_SIGNS)) else ""


def _python(lines: Sequence[str]) -> Iterator[_Frame]:
    """Yield the frames of Python: `File "shop/cart.py", line 12, in add`."""
    for line in lines:
        place = line.lstrip(" \t")
        if not place.startswith('File "') or len(place) == len(line):
            continue
        file, _, rest = place[6:].partition('", line ')
        number, _, function = rest.partition(", in ")
        if file and number.isdecimal() and function and not function[0].isspace():
            function = function.split(None, 1)[0]
            yield _Frame(function, f"{file}:{function}")


def _go(lines: Sequence[str]) -> Iterator[_Frame]:
    """Yield the frames of Go, of two lines: `main.(*Cart).Add(0xc0000)`, then its file."""
    for line, below in pairwise(lines):
        if line.endswith(")") and below[:1] in (" ", "\t") and _is_go_place(below):
            name = _go_function(line)
            if name:
                yield _Frame(name, name)


def _is_go_place(line: str) -> bool:
    place = line.split(None, 1)[:1]
    file, _, number = place[0].rpartition(".go:") if place else ("", "", "")
    return bool(file) and number[:1].isdecimal()


def _go_function(line: str) -> str:
    """Return the text before the last bracket that follows a name with a dot behind its last slash; "" without one."""
    end = next((index for index, sign in enumerate(line) if not (sign.isalnum() or sign in _GO_SIGNS)), len(line) - 1)
    while True:
        bracket = line.rfind("(", 0, end + 1)
        slash = line.rfind("/", 0, max(bracket, 0))
        if bracket > 0 and line.rfind(".", max(slash, 0) + 1, bracket - 1) > 0:
            return line[:bracket]
        if slash < 0:
            return ""
        end = slash


_LANGUAGES: Final[tuple[tuple[Callable[[Sequence[str]], Iterator[_Frame]], bool], ...]] = (
    (_calls, False),
    (_python, True),  # its newest frame comes last
    (_go, False),
)


def _is_alnum(text: str) -> bool:
    return not text or text.isalnum()


def _is_foreign(location: str) -> bool:
    return location.startswith(_FOREIGN_STARTS) or any(part in location for part in _FOREIGN_PARTS)
