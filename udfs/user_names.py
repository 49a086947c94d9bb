"""Names of users in masked lines: who it was is personal data, and not what happened.

A name looks like any word, so it is told by the words around it, as sshd, PAM, databases and web frameworks write them.
What stands alone is left: `login failed: alice`. Words that often follow `user` and are no name are left as well.
"""

import re
from typing import Final

from udfs.masking import USER

__all__ = ["hide_names"]

_LETTER: Final = rb"\w\x01-\x08\x80-\xff"
_NAME: Final = rb"[" + _LETTER + rb"](?:[.$@+" + _LETTER + rb"-]*[$" + _LETTER + rb"])?"
_DOMAIN: Final = rb"(?:\w+\\)?"
_NO_NAME: Final = (
    rb"(?!(?:true|false|null|nil|none|unknown|anonymous|not|is|has|was|id|name|account|session|profile|record|data|"
    rb"input|action|interaction|request|response|login|logon|logout|access|agent|info|details|connection|type|"
    rb"authentication|authorization|credentials?|permissions?|roles?|groups?|service|token|space|mode)s?\b)"
)
_END: Final = rb"(?=\W*$| ?[\[(]|[,;)\]]| (?:from|by|at|on|via)\b)"
# Each is what stands before a name, and what must follow it.
_PLACES: Final = (
    (rb"(?:user(?:[ _-]?(?:name|id))?|logname|acct)[\"']?(?: = |=|:)[\"']?" + _DOMAIN, rb""),
    (rb"\buser[ _-]?name: ", rb""),
    (rb"\b(?:for|as|such|invalid|illegal|unknown) user:? " + _DOMAIN, _END),
    (rb"\buser " + _DOMAIN, rb"(?= from\b| logged (?:in|out|on|off)\b)"),
    (rb"\b(?:password|publickey|pam|hostbased|login|authentication(?: failure)?) for ", rb"(?= from\b)"),
    (rb"(?:/home/|/Users/|\\Users\\)", rb""),
)
_FOUND: Final = re.compile(
    b"|".join(b"(" + before + b")" + _NO_NAME + _NAME + behind for before, behind in _PLACES), re.IGNORECASE
)
_SIGNS: Final = (b"user", b" for ", b"/home/", b"logname", b"acct")  # a line without any of them has no name


def hide_names(shape: bytes) -> bytes:
    """The shape with USER for each name. Some 4 us for 100 bytes, or a tenth of it where nothing speaks of users."""
    small = shape.lower()
    if not any(sign in small for sign in _SIGNS):
        return shape
    return _FOUND.sub(lambda found: found[found.lastindex or 0] + USER, shape)
