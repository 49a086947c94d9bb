"""Regular expressions over input, in time linear in the length of the text: those of RE2.

Python's `re` backtracks: a record of some kilobytes can hold it for minutes. RE2 cannot; it has no look-around, no
possessive quantifier and no back-reference, and its classes (`\\w`, `\\d`, `\\s`, `\\b`) are those of ASCII.
https://github.com/google/re2/wiki/Syntax
"""

from collections.abc import Callable, Iterator
from typing import AnyStr, Protocol, TypeVar, cast

import re2

__all__ = ["Expression", "Match", "expression"]

_Text = TypeVar("_Text", str, bytes, covariant=True)


class Match(Protocol[_Text]):
    """A match. A group is its number or its name; a group without a match has the text None and the position -1."""

    @property
    def lastindex(self) -> int | None: ...
    def __getitem__(self, group: int | str, /) -> _Text: ...
    def start(self, group: int = 0, /) -> int: ...
    def end(self, group: int = 0, /) -> int: ...


class Expression(Protocol[AnyStr]):
    """A compiled expression; the methods are those of `re.Pattern`."""

    def match(self, text: AnyStr, pos: int | None = None, /) -> Match[AnyStr] | None: ...
    def search(self, text: AnyStr, pos: int | None = None, /) -> Match[AnyStr] | None: ...
    def fullmatch(self, text: AnyStr, /) -> Match[AnyStr] | None: ...
    def finditer(self, text: AnyStr, /) -> Iterator[Match[AnyStr]]: ...
    def sub(self, repl: AnyStr | Callable[[Match[AnyStr]], AnyStr], text: AnyStr, /) -> AnyStr: ...


def expression(pattern: AnyStr, *, ignore_case: bool = False) -> Expression[AnyStr]:
    """Compile an expression. One of bytes reads single bytes, one of text reads characters.

    Raises re2.error for an invalid one. A search takes about 1 us and 1 ns a byte; for a text it also encodes the text
    and counts its characters.
    """
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.log_errors = False
    if isinstance(pattern, bytes):
        options.encoding = re2.Options.Encoding.LATIN1
    return cast(Expression[AnyStr], re2.compile(pattern, options))
