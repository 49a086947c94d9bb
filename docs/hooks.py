"""Hooks of mkdocs: documents beside this folder become pages, and links of the checkout become links of the site.

As on a code host, a link leads to a document, a folder, a module or another file. On the site it leads to its page, to
the README or the list of the folder, to the page of the module in `nav`, or to a copy of the file. A link to anything
that does not exist stays as it is written, and the strict build fails.
"""

from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DECISIONS = ROOT / "docs" / "decisions"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents beside `docs`, the list of decisions, and the pages of modules that `nav` names."""
    for path in (*ROOT.glob("*.md"), *ROOT.glob("examples/**/README.md")):
        files.append(File.generated(config, page_of(path), abs_src_path=str(path)))
    files.append(File.generated(config, page_of(DECISIONS), content=list_of(DECISIONS)))
    for page in pages(config.nav):
        if page.startswith("reference/"):
            module = page.removeprefix("reference/").removesuffix(".md")
            files.append(File.generated(config, page, content=f"# `{module}`\n\n::: {module}\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the text of a document with the links of the site; pages that are made here have no others."""
    source = page.file.abs_src_path
    if source is None:
        return markdown
    first, *rest = markdown.split("](")
    parts = [first]
    for part in rest:
        target, bracket, behind = part.partition(")")
        name, mark, anchor = target.partition("#")
        path = (Path(source).parent / name).resolve()
        if name and path.exists() and path.is_relative_to(ROOT):
            name = relpath(linked(path, config, files), dirname(page.file.src_uri))
        parts.append("".join((name, mark, anchor, bracket, behind)))
    return "](".join(parts)


def linked(path: Path, config: MkDocsConfig, files: Files) -> str:
    """Return the place on the site of a file or folder; a file that is no page gets a copy there."""
    page, name = page_of(path), path.relative_to(ROOT).as_posix()
    if path.suffix == ".md" or path.is_dir() or files.get_file_from_path(page):
        return page
    if not files.get_file_from_path(name):
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return name


def page_of(path: Path) -> str:
    """Return the place on the site of a file or folder of the checkout."""
    name = path.relative_to(ROOT).as_posix().removeprefix("docs/")
    if path.is_dir():
        return f"{name}/index.md"
    if path.name == "README.md":
        return f"{name.removesuffix('README.md')}index.md"
    return f"reference/{name.removesuffix('.py').replace('/', '.')}.md" if path.suffix == ".py" else name


def list_of(folder: Path) -> str:
    """Return a page that lists the documents of a folder by their titles."""
    titles = {path.name: path.read_text().partition("\n")[0].removeprefix("# ") for path in sorted(folder.glob("*.md"))}
    lines = (f"- [{title.replace('. ', ' · ', 1)}]({name})" for name, title in titles.items())
    return "\n".join((f"# {folder.name.capitalize()}\n", *lines, ""))


def pages(nav: Any) -> Iterator[str]:
    """Yield the pages of `nav`, which is nested lists of titles with pages."""
    if isinstance(nav, str):
        yield nav
    elif nav:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from pages(entry)
