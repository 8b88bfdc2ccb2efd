"""A document as LaTeX, for hand-ins as PDF, which pdflatex compiles.

Each table becomes a longtable in booktabs' style, with a caption where `minbert report` draws it,
and each figure the PDF beside its SVG. Those of the markers study-small/table-1 and
study-small/figure-curves have the labels tab:study-small-table-1 and fig:study-small-curves. All
text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode as Node

from multitask.report.latex_table import Cell, longtable
from multitask.report.latex_text import breakable, declarations, escaped, guarded, url
from multitask.report.markdown import RESULTS

PREAMBLE = r"""\documentclass[11pt,a4paper]{article}
\usepackage[margin=2cm]{geometry}
\usepackage{iftex}
\ifPDFTeX
  \usepackage[T1]{fontenc}
  \usepackage{lmodern}
  \usepackage{amssymb}
%(declarations)s\else
  \usepackage{fontspec}
\fi
\usepackage{graphicx}
\usepackage{booktabs}
\usepackage{array}
\usepackage{longtable}
\usepackage[hidelinks]{hyperref}
\setlength{\tabcolsep}{3pt}
\setlength{\LTcapwidth}{\linewidth}
\setlength{\emergencystretch}{3em}
"""
MARK = re.compile(r"<!-- (?P<end>end of )?(?:report: )?(?P<mark>[\w.+-]+/[\w-]+) -->")
ANCHOR = re.compile(r'<a id="(?P<name>[^"]*)">(?:</a>)?')
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
SECTIONS = {1: "section", 2: "section", 3: "subsection", 4: "subsubsection"}
"""Level of a heading -> its command; those below are paragraphs."""
INCLUDED = (".pdf", ".png", ".jpg", ".jpeg")
"""Figures that LaTeX includes."""
NAMES_OF_FILES = re.compile(r"[\w ./+@=,()-]+")
"""What \\includegraphics takes as it is."""


def to_latex(text: str, titles: Mapping[str, str] | None = None) -> str:
    """A Markdown document (CommonMark with tables) as a LaTeX document.

    Args:
        text: the document.
        titles: a marker's NAME/BLOCK -> the caption of the table in it.

    Raises:
        ValueError: it has a figure that LaTeX cannot include.
    """
    tree = Node(MarkdownIt("commonmark").enable("table").parse(text))
    writer = _Writer(titles or {})
    body = writer.blocks(tree.children)
    title = f"\\title{{{writer.title}}}\n\\author{{}}\n\\date{{}}\n" if writer.title else ""
    top = "\\maketitle\n\n" if writer.title else ""
    preamble = PREAMBLE % {"declarations": declarations(body + title)}
    return f"{preamble}{title}\n\\begin{{document}}\n{top}{body}\\end{{document}}\n"


@dataclass
class _Writer:
    """Writes the parts of a document, one after the other."""

    titles: Mapping[str, str]
    title: str = ""
    mark: str | None = None
    """Of the block that it is in."""

    def blocks(self, nodes: list[Node]) -> str:
        return "".join(f"{text}\n\n" for text in map(self.block, nodes) if text)

    def block(self, node: Node) -> str:
        match node.type:
            case "heading":
                return self.heading(node)
            case "paragraph":
                return self.paragraph(node)
            case "table":
                return self.table(node)
            case "bullet_list" | "ordered_list":
                return self.items(node)
            case "blockquote":
                return f"\\begin{{quote}}\n{self.blocks(node.children)}\\end{{quote}}"
            case "fence" | "code_block":
                return _code(node.content)
            case "html_block":
                return self.html(node)
            case "hr":
                return "\\par\\noindent\\rule{\\linewidth}{.4pt}"
        raise ValueError(f"there is no LaTeX for Markdown's {node.type} yet")

    def heading(self, node: Node) -> str:
        words, level = self.inline(node.children), int(node.tag[1:])
        if level == 1 and not self.title:
            self.title = words
            return ""
        name = re.sub(r"[^\w -]", "", node.children[0].content.lower()).replace(" ", "-")
        target = f"\\hypertarget{{{url(name)}}}{{}}"
        return f"\\{SECTIONS.get(level, 'paragraph')}{{{words}}}{target}"

    def paragraph(self, node: Node) -> str:
        (inline,) = node.children
        if [child.type for child in inline.children] == ["image"]:
            return self.figure(inline.children[0])
        return self.inline(node.children)

    def figure(self, node: Node) -> str:
        source = unquote(str(node.attrs["src"]))
        if self.mark:
            source = str(PurePosixPath(source).with_suffix(".pdf"))
        name = self.mark and self.mark.replace("/figure-", "-")
        label = f"\\label{{fig:{name}}}" if name else ""
        return (
            "\\begin{figure}[!htbp]\n\\centering\n"
            f"\\includegraphics[width=\\linewidth]{{{_file(source)}}}\n"
            f"\\caption{{{escaped(node.content)}}}{label}\n\\end{{figure}}"
        )

    def table(self, node: Node) -> str:
        lines = [row.children for part in node.children for row in part.children]
        right = ["right" in str(cell.attrs.get("style", "")) for cell in lines[0]]
        cells = [[Cell(self.inline(c.children), _plain(c)) for c in line] for line in lines]
        caption = self.titles.get(self.mark or "")
        label = f"tab:{self.mark.replace('/', '-')}" if self.mark and caption else None
        return longtable(cells, right, caption and escaped(caption), label)

    def items(self, node: Node) -> str:
        kind = "itemize" if node.type == "bullet_list" else "enumerate"
        each = (guarded(self.blocks(item.children).rstrip()) for item in node.children)
        items = "".join(f"\\item {text}\n" for text in each)
        return f"\\begin{{{kind}}}\n{items}\\end{{{kind}}}"

    def html(self, node: Node) -> str:
        for found in MARK.finditer(node.content):
            self.mark = None if found["end"] else found["mark"]
        for mark, edge in zip(("results", None), RESULTS):
            if edge.strip() in node.content:
                self.mark = mark
        return self.tags(node.content).strip()

    def tags(self, text: str) -> str:
        """HTML: comments are left out, targets of links kept, and the rest is shown as it is."""
        parts, end = [], 0
        text = COMMENT.sub("", text).replace("</a>", "")
        for found in ANCHOR.finditer(text):
            parts += [escaped(text[end : found.start()])]
            parts += [f"\\hypertarget{{{url(found['name'])}}}{{}}"]
            end = found.end()
        return "".join([*parts, escaped(text[end:])])

    def inline(self, nodes: list[Node]) -> str:
        return "".join(map(self.words, nodes))

    def words(self, node: Node) -> str:
        inner = self.inline(node.children)
        match node.type:
            case "text":
                return escaped(node.content)
            case "code_inline":
                return f"\\texttt{{{breakable(escaped(node.content))}}}"
            case "strong":
                return f"\\textbf{{{inner}}}"
            case "em":
                return f"\\emph{{{inner}}}"
            case "link":
                return _link(str(node.attrs["href"]), inner)
            case "image":
                return f"\\includegraphics[height=1em]{{{_file(unquote(str(node.attrs['src'])))}}}"
            case "html_inline":
                return self.tags(node.content)
            case "softbreak":
                return "\n"
            case "hardbreak":
                return "\\newline\n"
        return inner  # of "inline", which holds others


def _code(text: str) -> str:
    """Lines in typewriter type, which may be broken: verbatim would end where the text says so."""
    lines = []
    for line in text.rstrip("\n").split("\n"):
        words = breakable(escaped(line))
        # Spaces at the beginning of a line, or after others, would be lost.
        lines.append("\\mbox{}" + re.sub(r"^ +| {2,}", lambda spaces: "~" * len(spaces[0]), words))
    text = "\\\\*\n".join(lines)
    return f"\\begin{{flushleft}}\\ttfamily\\footnotesize\n{text}\n\\end{{flushleft}}"


def _link(target: str, words: str) -> str:
    if target.startswith("#"):
        return f"\\hyperlink{{{url(target[1:])}}}{{{words}}}"
    return f"\\href{{{url(target)}}}{{{words}}}"


def _file(source: str) -> str:
    """A figure's file, as \\includegraphics takes it."""
    if not source.lower().endswith(INCLUDED):
        raise ValueError(
            f"the document shows {source}, which LaTeX cannot include; save it as PDF or PNG and "
            "name that, or let minbert report draw it"
        )
    if not NAMES_OF_FILES.fullmatch(source):
        raise ValueError(
            f"the document shows {source!r}, a name that LaTeX cannot include; rename the file to "
            "letters, digits, - and ."
        )
    return source


def _plain(node: Node) -> str:
    """What a reader sees of a cell."""
    own = node.content if node.type in ("text", "code_inline") else ""
    return own + "".join(map(_plain, node.children))
