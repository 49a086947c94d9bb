"""Parser of stack traces: the exception, and the frames of the program itself."""

import re
from typing import Final, NamedTuple

__all__ = ["ParsedException", "exception_in"]

FRAMES_MAX: Final = 3
TRACE_CHARS_MAX: Final = 16_384

# A frame is the name of a function; line numbers change with each release and are left out.
_FRAMES: Final = (
    re.compile(
        r"^[ \t]+at (?:async )?(?P<frame>[\w$.<>/ \[\]]+?)(?: in .*)? ?(?:\(|$)", re.MULTILINE
    ),  # Java, .NET, JS
    re.compile(r"^[ \t]+File \"(?P<file>[^\"]+)\", line \d+, in (?P<frame>\S+)", re.MULTILINE),  # Python, newest last
    re.compile(r"^(?P<frame>[\w./*()\-]+\.[\w.*()\-]+)\(.*\)\n[ \t]+\S+\.go:\d+", re.MULTILINE),  # Go
)
_PYTHON: Final = 1
_HEADER: Final = re.compile(
    r"^(?:Caused by: |Exception in thread \"[^\"]*\" )?(?P<type>[A-Za-z_$][\w$.]*)(?:: (?P<message>.*))?$"
)
# Libraries and runtimes of the JVM, Python, Node, Go, .NET. Their frames are left out: they show no place to fix.
_FOREIGN: Final = re.compile(
    r"^(?:(?:java|javax|jdk|sun|com\.sun|kotlin|scala|akka|reactor|io\.netty|okhttp3|feign|lombok|junit)\.|org\.(?:spring|"
    r"apache|hibernate|eclipse|jboss|postgresql|mongodb)|com\.(?:mysql|zaxxer|fasterxml|google\.common|mongodb)\.|System\."
    r"|Microsoft\.|net/http|runtime|node:|internal/|Object\.|Module\.|process\.|new Promise)"
    r"|site-packages|dist-packages|/lib/python|node_modules|\$\$|\$Proxy|GeneratedMethodAccessor"
)


class ParsedException(NamedTuple):
    """Exception of a stack trace."""

    type: str
    message: str
    # The innermost frames of the program itself, the innermost first; where there are none, the innermost of all.
    frames: tuple[str, ...]


def exception_in(text: str) -> ParsedException | None:
    """Return the exception of a text with a stack trace; None where the text has no frame."""
    text = text[:TRACE_CHARS_MAX]
    for language, pattern in enumerate(_FRAMES):
        found = list(pattern.finditer(text))
        if not found:
            continue
        lines = text.splitlines()
        headers = lines[::-1] if language == _PYTHON else lines
        header = next((match for line in headers if line.strip() and (match := _HEADER.match(line.strip()))), None)
        frames = [_frame(match) for match in (reversed(found) if language == _PYTHON else found)]
        own = [name for name, location in frames if not _FOREIGN.search(location)] or [frames[0][0]]
        kind, message = (header["type"], header["message"] or "") if header else ("", lines[0])
        return ParsedException(kind, message, tuple(dict.fromkeys(own))[:FRAMES_MAX])
    return None


def _frame(match: re.Match[str]) -> tuple[str, str]:
    """Return (name, location): the location shows whether the frame is of a library."""
    name = match["frame"].strip()
    file = match.groupdict().get("file")
    return name, f"{file}:{name}" if file else name
