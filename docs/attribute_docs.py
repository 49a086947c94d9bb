"""Extension of griffe: an attribute without a docstring gets the comment above it, or the text in its annotation.

This project documents fields in comments, columns and fields of contracts in `Annotated`.
"""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from griffe import Attribute, Docstring, Extension


class AttributeDocs(Extension):
    """Gives attributes their documentation while griffe reads a module."""

    def on_attribute_instance(self, *, node: Any, attr: Attribute, **_: Any) -> None:
        """Set the docstring of an attribute that has none."""
        if attr.docstring is None and attr.lineno is not None:
            module = [line.strip() for line in attr.lines_collection[Path(str(attr.filepath))]]
            if text := comment(module, attr.lineno) or annotated(node):
                attr.docstring = Docstring(text, lineno=attr.lineno, parent=attr)


def comment(lines: Sequence[str], number: int) -> str:
    """Return the comment above a line, or behind it. number: of the line, from 1."""
    first = last = number - 1
    while lines[first - 1].startswith("# "):
        first -= 1
    _, mark, behind = lines[last].partition("  # ")
    return " ".join(line.removeprefix("# ") for line in lines[first:last]) or (behind if mark else "")


def annotated(node: Any) -> str:
    """Return the last text of `Annotated[type, …, text]`, also where it is a `description`."""
    annotation = getattr(node, "annotation", None)
    if not isinstance(annotation, ast.Subscript) or not isinstance(annotation.slice, ast.Tuple):
        return ""
    last = annotation.slice.elts[-1]
    if isinstance(last, ast.Call):
        described = [keyword.value for keyword in last.keywords if keyword.arg == "description"]
        last = described[0] if described else last
    return last.value if isinstance(last, ast.Constant) and isinstance(last.value, str) else ""
