"""What is on the pages of the documentation: a hook of mkdocs.yml.

The site's tree is the project's, so that a link between two files leads where it leads in the
project. A module is a page of its docstrings, any other Python file that a page links to is a page
of its text, and a folder a list of its files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ["README.md", "docs/*.md", "docs/extensions/*.md"]
"""Pages of text, in the order of the navigation; the reference follows, and then NOTES."""
NOTES = ["Report.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PACKAGES = ["minbert", "optim", "data", "multitask"]
LAB = ["lab/__init__.py", "lab/exercises/__init__.py", "lab/exercises/record.py",
       "lab/commands.py", "lab/check.py", "lab/handout.py", "lab/grade.py",
       "lab/collect.py", "lab/results.py", "lab/similar.py",
       "lab/bundle.py"]  # fmt: skip
"""What of the lab a teacher, or a program of theirs, may call."""
ASIDE = InclusionLevel.NOT_IN_NAV
"""Of a page that may stand beside the navigation."""
LINK = re.compile(r"(\]\()([^)#:\s]+)(?=[)#])")
"""The beginning of a link to a file, and the file."""
SEVERAL = re.compile(
    r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +.*)*)", re.MULTILINE
)
"""What a docstring says of several parameters at once."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the site, and its navigation."""
    home, *guides = [path for pattern in GUIDES for path in sorted(ROOT.glob(pattern))]
    notes = [ROOT / name for name in NOTES]
    texts, modules = [home, *guides, *notes], list(api())
    config.nav = [
        name_of(home),
        {"Guides": [name_of(path) for path in guides]},
        {"Reference": reference(modules)},
        *NOTES,
    ]
    made = {name_of(path): _copied(path, config) for path in texts}
    for path in modules:
        title = ".".join(module_of(path))
        text = f"# {title}\n\n::: {title}\n"
        made[page_of(path)] = File.generated(config, page_of(path), content=text)
    for path in linked(texts):
        page = page_of(path)
        if page not in made and (path.suffix == ".py" or path.is_dir()):
            made[page] = File.generated(config, page, content=_text(path), inclusion=ASIDE)
        elif page not in made:
            made[page] = _copied(path, config)
    theme = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*made.values(), *theme])


def reference(modules: list[Path]) -> list[Any]:
    """The modules as navigation: a package is a section, whose first page is its own."""
    sections: dict[str, list[Any]] = {"": []}
    for path in modules:
        *above, name = module_of(path)
        entry: Any = page_of(path)
        if path.name == "__init__.py":
            entry = sections[".".join([*above, name])] = [entry]
        sections[".".join(above)].append({name: entry})
    return sections[""]


def api() -> Iterator[Path]:
    """The modules whose docstrings are pages."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name != "__main__.py":
                yield path
    yield from (ROOT / name for name in LAB)


def linked(guides: list[Path]) -> Iterator[Path]:
    """What pages link to, and the files of folders among it."""
    for guide in guides:
        for _, link in LINK.findall(guide.read_text(encoding="utf-8")):
            path = Path(os.path.normpath(guide.parent / link))
            if path.exists():  # else MkDocs says that it is not
                yield path
            if path.is_dir():
                yield from files_in(path)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> list[str]:
    parts = [*path.relative_to(ROOT).with_suffix("").parts]
    return parts[:-1] if parts[-1] == "__init__" else parts


def page_of(path: Path) -> str:
    """The page of a file or folder of the project."""
    if path.is_dir() or path.name == "__init__.py":
        folder = path if path.is_dir() else path.parent
        return f"{name_of(folder)}/index.md"
    return name_of(path.with_suffix(".md")) if path.suffix == ".py" else name_of(path)


def _copied(path: Path, config: MkDocsConfig) -> File:
    return File(
        name_of(path), str(ROOT), config.site_dir, config.use_directory_urls, inclusion=ASIDE
    )


def _text(path: Path) -> str:
    """The page of a Python file that is no module of the API, or of a folder."""
    title = f"# {name_of(path)}\n\n"
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in files_in(path)]
        return title + "".join(f"- [{name}]({name})\n" for name in names)
    return f"{title}````python\n{path.read_text(encoding='utf-8')}````\n"


class ParametersApart(griffe.Extension):
    """A line of a docstring on several parameters, "query, key: (B, N, S, d)", is one on each."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        names = {parameter.name for parameter in func.parameters}

        def apart(line: re.Match[str]) -> str:
            each = line["names"].split(", ")
            found = [f"{line['indent']}{name}: {line['text']}" for name in each]
            return "\n".join(found) if names.issuperset(each) else line[0]

        if func.docstring:
            func.docstring.value = SEVERAL.sub(apart, func.docstring.value)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links to Python files and folders lead to their pages."""
    here = (ROOT / page.file.src_uri).parent

    def lead(link: re.Match[str]) -> str:
        path = Path(os.path.normpath(here / link[2]))
        if path.suffix == ".py" or path.is_dir():
            return link[1] + os.path.relpath(ROOT / page_of(path), here)
        return link[0]

    return LINK.sub(lead, markdown)
