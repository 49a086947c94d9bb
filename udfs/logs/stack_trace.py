"""What a stack trace says in a few words: its exception, and the frames of the program itself."""

import re
from typing import Final, NamedTuple

__all__ = ["ParsedException", "exception_in"]

FRAMES_MAX: Final = 3
TRACE_CHARS_MAX: Final = 16_384

# A frame names a function; line numbers move with each release and are left out.
_FRAMES: Final = (
    re.compile(
        r"^[ \t]+at (?:async )?(?P<frame>[\w$.<>/ \[\]]+?)(?: in .*)? ?(?:\(|$)", re.MULTILINE
    ),  # Java, .NET, JS
    re.compile(r"^[ \t]+File \"(?P<file>[^\"]+)\", line \d+, in (?P<frame>\S+)", re.MULTILINE),  # Python, newest last
    re.compile(r"^(?P<frame>[\w./*()\-]+\.[\w.*()\-]+)\(.*\)\n[ \t]+\S+\.go:\d+", re.MULTILINE),  # Go
)
_PYTHON: Final = 1
_HEADER: Final = re.compile(
    r"^(?:Caused by: |Exception in thread \"[^\"]*\" )?(?P<type>[A-Za-z_$][\w$.]*)(?:: (?P<said>.*))?$"
)
# What programs stand on: of the JVM, Python, Node, Go, .NET. Frames of theirs name no place to mend.
_FOREIGN: Final = re.compile(
    r"^(?:(?:java|javax|jdk|sun|com\.sun|kotlin|scala|akka|reactor|io\.netty|okhttp3|feign|lombok|junit)\.|org\.(?:spring|"
    r"apache|hibernate|eclipse|jboss|postgresql|mongodb)|com\.(?:mysql|zaxxer|fasterxml|google\.common|mongodb)\.|System\."
    r"|Microsoft\.|net/http|runtime|node:|internal/|Object\.|Module\.|process\.|new Promise)"
    r"|site-packages|dist-packages|/lib/python|node_modules|\$\$|\$Proxy|GeneratedMethodAccessor"
)


class ParsedException(NamedTuple):
    """frames: the innermost of the program's own, first the innermost; of none of its own the innermost of all."""

    type: str
    message: str
    frames: tuple[str, ...]


def exception_in(text: str) -> ParsedException | None:
    """What a text with a stack trace in it says was thrown; None where no frame is in it."""
    text = text[:TRACE_CHARS_MAX]
    for language, pattern in enumerate(_FRAMES):
        found = list(pattern.finditer(text))
        if not found:
            continue
        lines = text.splitlines()
        headers = lines[::-1] if language == _PYTHON else lines
        header = next((match for line in headers if line.strip() and (match := _HEADER.match(line.strip()))), None)
        frames = [_frame(match) for match in (reversed(found) if language == _PYTHON else found)]
        own = [name for name, place in frames if not _FOREIGN.search(place)] or [frames[0][0]]
        kind, said = (header["type"], header["said"] or "") if header else ("", lines[0])
        return ParsedException(kind, said, tuple(dict.fromkeys(own))[:FRAMES_MAX])
    return None


def _frame(match: re.Match[str]) -> tuple[str, str]:
    """(name, what tells whose it is)."""
    name = match["frame"].strip()
    file = match.groupdict().get("file")
    return name, f"{file}:{name}" if file else name
