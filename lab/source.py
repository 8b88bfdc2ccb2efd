"""Functions in source files: where they are, and how their bodies are taken out and put in."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Target:
    """A function or method by its dotted name: minbert.encoders.bert:Pooler.forward."""

    module: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Target:
        return cls(*text.split(":"))

    @property
    def path(self) -> Path:
        """The module's file, from the root of the project."""
        return Path(*self.module.split(".")).with_suffix(".py")

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@functools.lru_cache(maxsize=64)
def parsed(source: str) -> ast.Module:
    """A file's tree, which nobody changes: many functions of the same file are asked for."""
    return ast.parse(source)


def find(tree: ast.Module, name: str) -> Function:
    """The definition of `name`, such as "f" or "Class.method".

    Raises:
        ValueError: there is none.
    """
    node: ast.AST = tree
    for part in name.split("."):
        found = [n for n in ast.iter_child_nodes(node) if getattr(n, "name", None) == part]
        if not found:
            raise ValueError(f"there is no {name} in this file; has it been renamed?")
        node = found[-1]  # the last definition is the one that counts
    if not isinstance(node, Function):
        raise ValueError(f"{name} is not a function")
    return node


def find_line(source: str, name: str) -> int:
    """The line, counted from 1, on which a function begins."""
    return find(parsed(source), name).lineno


def body_lines(source: str, name: str) -> tuple[int, int]:
    """First and last line of a function's body without its docstring, counted from 0, end out."""
    function = find(parsed(source), name)
    skipped = 1 if ast.get_docstring(function) is not None else 0
    statements = function.body[skipped:]
    if not statements:
        raise ValueError(f"{name} has a docstring and no body")
    end = statements[-1].end_lineno
    assert end is not None  # of what was parsed from text
    return statements[0].lineno - 1, end


def replace_body(source: str, name: str, lines: list[str]) -> str:
    """The source with other lines, given without indentation, for the body of `name`."""
    first, last = body_lines(source, name)
    old = source.splitlines(keepends=True)
    # Comments above the first statement belong to the body.
    while old[first - 1].strip().startswith("#"):
        first -= 1
    indent = " " * (find(parsed(source), name).col_offset + 4)
    new = [f"{indent}{line}\n" if line else "\n" for line in lines]
    return "".join([*old[:first], *new, *old[last:]])


def body_of(source: str, name: str) -> list[str]:
    """The lines of a function's body, without its docstring and without indentation."""
    first, last = body_lines(source, name)
    indent = find(parsed(source), name).col_offset + 4
    return [line[indent:] for line in source.splitlines()[first:last]]
