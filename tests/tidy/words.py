"""Words of the glossary: identifiers and docstrings are split into words; those of a private language are refused."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Final

from tests.tidy.rules import Module

# Word -> the term of docs/glossary.md. Plurals and other forms are refused as well.
BANNED: Final = {
    "pane": "window",
    "hear": "receive, be active",
    "hears": "receives",
    "heard": "active, seen",
    "tell": "report, emit",
    "tells": "reports",
    "told": "emitted, reported",
    "loud": "severe",
    "halve": "call side",
    "halves": "call sides",
    "halving": "sampling",
    "news": "novelty",
    "learnt": "learned, model",
    "frontier": "early and final evaluation",
    "wake": "timer",
    "announced": "emitted",
    "announce": "emit",
    "presence": "activity",
    "tombstone": "evicted",
    "stretch": "interval",
    "thrown": "exception",
    "suspicion": "pending alert",
    "premerge": "pre-aggregation",
    "shape": "masked line, effect, template",
    "nobody": "no service, no one record",
    "somebody": "a service",
    "anybody": "any service",
    "everybody": "all services",
    "whoever": "any reader",
    "likewise": "say it again, or leave it out",
}
# Names that others chose: contracts of this project, numpy, Hypothesis, the standard library.
ALLOWED: Final = frozenset({"trace_shape_change", "bench_shapes", "shapes", "shape", "half_life"})
# The same in docstrings: a kind of insight, a command.
ALLOWED_TEXTS: Final = re.compile("trace_shape_change|bench shapes")
# A docstring of a function begins with a verb: these first words begin a noun or a clause.
NO_VERBS: Final = frozenset(
    {
        "a",
        "all",
        "an",
        "any",
        "as",
        "at",
        "both",
        "each",
        "every",
        "for",
        "from",
        "how",
        "in",
        "it",
        "its",
        "of",
        "on",
        "one",
        "one's",
        "so",
        "such",
        "that",
        "the",
        "their",
        "these",
        "this",
        "those",
        "to",
        "what",
        "when",
        "where",
        "whether",
        "which",
        "while",
        "who",
        "whose",
        "why",
        "with",
    }
)
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def words_of(name: str) -> list[str]:
    """Split an identifier at underscores and capitals."""
    return [word.lower() for part in name.split("_") for word in _WORDS.findall(part)]


def banned(word: str) -> str:
    """Return the term to use instead of a word, "" where the word is fine."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"))
    return next((BANNED[form] for form in forms if form in BANNED), "")


def private_words(module: Module) -> Iterator[str]:
    """Yield identifiers and docstrings with a word that the glossary replaces."""
    seen: set[tuple[int, str]] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.NAME and token.string not in ALLOWED:
            for word in words_of(token.string):
                if (term := banned(word)) and (token.start[0], token.string) not in seen:
                    seen.add((token.start[0], token.string))
                    yield f"{module.name}:{token.start[0]}: {token.string} has the word {word!r}; say {term}"
    for node, text in docstrings(module):
        for word in re.findall(r"[A-Za-z]+", ALLOWED_TEXTS.sub("", text)):
            if term := banned(word.lower()):
                yield f"{module.name}:{node}: the docstring has the word {word!r}; say {term}"


def docstrings(module: Module) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each docstring."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield getattr(node, "lineno", 1), text


def verbless_docstrings(module: Module) -> Iterator[str]:
    """Yield functions of the product whose docstring does not begin with a verb; a property may begin with a noun."""
    if module.room == "tests":
        return
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        is_property = any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list)
        if text is None or is_property:
            continue
        first = re.match(r"[A-Za-z']*", text)
        if first is None or first.group(0).lower() in NO_VERBS:
            yield f"{module.name}:{node.lineno}: the docstring of {node.name} begins with {text[:30]!r}, no verb"
