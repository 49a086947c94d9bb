"""Names of users in masked lines: who it was is personal data, and not what happened.

A name looks like any word. It is told by the words around it where these leave no doubt: in `user=…` and its likes, in
the sentences of sshd, PAM, sudo and logind, in what is said of logins, in home folders. Elsewhere it stays: of
`user preferences not found` and `user alice not found` one is a reason, and to hide it would make two errors one.
"""

import re
from typing import Final

from udfs.logs.masking.masker import USER

__all__ = ["hide_names"]

_LETTERS: Final = rb"[\w$\x01-\x08\x80-\xff]++"
_NAME: Final = _LETTERS + rb"(?:[.@+\\-]++" + _LETTERS + rb")*+"  # possessive: no line takes more than a few passes
_VALUE: Final = (
    rb"(?!(?:true|false|null|nil|none|unknown|anonymous|-)(?:[\s,;&|)\]}]|$))[^\s,;&|)\]}\"'][^\s,;&|)\]}\"]*+"
)
_KEY: Final = rb"(?:user(?:[ _.-]?(?:name|id))?|\blogname|\bacct)"
_FROM: Final = rb"(?= (?:from )?\x05)"  # an address
# Each is what stands before a name, the name, and what must follow it.
_PLACES: Final = (
    (_KEY + rb"(?: = |=)", _VALUE, rb""),
    (_KEY + rb"[\"']?(?: = |=|: ?)\"", rb"[^\"]++", rb"(?=\")"),
    (_KEY + rb"[\"']?(?: = |=|: ?)'", rb"[^']++", rb"(?=')"),
    (rb"\buser \"", rb"[^\"]++", rb"(?=\")"),
    (rb"\buser '", rb"[^']++", rb"(?=')"),
    (rb"\buser ", _NAME, rb"(?= from \x05| \x05| not allowed because\b| logged (?:in|out|on|off)\b| \[preauth\])"),
    (
        rb"\b(?:password|publickey|hostbased|gssapi-\S++|pam|log[io]n|authentication|failure|exceeded) for ",
        _NAME,
        _FROM,
    ),
    (rb"\b(?:log[io]n|auth(?:entication)?|access|password|session)(?: \w++){0,2} for user \[?", _NAME, rb""),
    (rb"\bof user ", _NAME, rb"(?=\.?$)"),
    (rb"\bby ", _NAME, rb"(?=\(uid=)"),
    (rb"^", _NAME, rb"(?= : TTY=)"),
    (rb"(?<![\w\x0e])(?-i:/home/|/Users/(?=[^\s/]++/))", _NAME, rb""),
    (rb"\\Users\\", _LETTERS + rb"(?:[.@+-]++" + _LETTERS + rb")*+", rb""),
)
_FOUND: Final = re.compile(
    b"|".join(b"(" + before + b")" + name + behind for before, name, behind in _PLACES), re.IGNORECASE
)
_SIGNS: Final = (b"user", b" for ", b"/home/", b"logname", b"acct", b"uid=", b"tty=")  # without any there is no name


def hide_names(masked_line: bytes) -> bytes:
    """The shape with USER for each name. Some 10 us for 100 bytes, or 1 us where nothing speaks of users."""
    small = masked_line.lower()
    if not any(sign in small for sign in _SIGNS):
        return masked_line
    return _FOUND.sub(lambda found: found[found.lastindex or 0] + USER, masked_line)
