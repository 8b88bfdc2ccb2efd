"""Documents as LaTeX: what stands in Markdown stands in the .tex, whatever characters are in it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from multitask.report.latex import to_latex

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = (
    "a_b & 100 % of $x^2$ #1 {~} \\input{secret}",
    "<b>bold</b> | \"q\" `` '' -- ---",
    "[1] first", "* star", "\\\\[2cm]", "\\end{longtable}", "^^41^^5c", "%", "\\", "é ± “q” √ ✓",
)  # fmt: skip
COMMANDS = {
    "\\textbackslash": "\\", "\\{": "{", "\\}": "}", "\\$": "$", "\\&": "&", "\\#": "#",
    "\\%": "%", "\\_": "_", "\\textasciicircum": "^", "\\textasciitilde": "~",
    "\\textless": "<", "\\textgreater": ">", "\\textbar": "|", "\\textquotedbl": '"',
    "\\textasciigrave": "`",
}  # fmt: skip
"""A command of LaTeX -> the character that it prints."""


def shown(latex):
    """What TeX makes of a text: its rules for commands and groups, in ten lines."""
    latex = re.sub(r"\\(?:href|hyperlink)\{(?:[^{}\\]|\\.)*\}", "", latex)
    latex = re.sub(r"\\hypertarget\{(?:[^{}\\]|\\.)*\}\{\}", "", latex)
    latex = re.sub(r"\\(?:texttt|emph|textbf)(?=\{)|\\allowbreak\{\}", "", latex)
    parts = re.findall(r"\\(?:[a-zA-Z]+|.)(?:\{\})?|[^\\{}]+|[{}]", latex)
    for plain in (part for part in parts if not part.startswith("\\")):
        assert not re.search(r"[&%$#_^~\"<>|]|--|''|``|,,", plain), f"{plain!r} means something"
    return "".join(
        COMMANDS[part.removesuffix("{}")] if part.startswith("\\") else part.strip("{}")
        for part in parts
    )


def tables_of(latex):
    """The cells of each longtable, header first, each as a reader sees it."""
    found = re.findall(r"\\begin\{longtable\}(.*?)\\end\{longtable\}", latex, re.S)
    tables = []
    for text in found:
        header = re.search(r"\\toprule\n(.*?) \\\\\n\\midrule", text, re.S)[1]
        body = text.partition("\\endlastfoot\n")[2].removesuffix(" \\\\\n")
        lines = [header, *(body.split(" \\\\\n") if body else [])]
        tables.append([[shown(cell).strip() for cell in re.split(r"(?<!\\)&", line)]
                       for line in lines])  # fmt: skip
    return tables


def tables_in_markdown(text):
    """The same of Markdown: links and code as their words."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    tables = []
    for found in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        header, _, *rows = found.splitlines()
        cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in (header, *rows)]
        plain = [[re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell) for cell in row] for row in cells]
        tables.append([[cell.strip().replace("`", "").replace("\\", "") for cell in row]
                       for row in plain])  # fmt: skip
    return tables


def compile_pdf(folder, text):
    """Let pdflatex make a PDF of a document; its log."""
    (folder / "made.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "made.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True)
    return done.returncode, done.stdout.decode(errors="replace")


@pytest.mark.parametrize("name", ["Report.md", "docs/study.md", "docs/sources.md"])
def test_every_table_of_a_document_is_there_with_the_same_cells(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    expected = tables_in_markdown(text)
    assert len(expected) > 1
    assert tables_of(to_latex(text)) == expected


def hostile_document():
    """Each hostile text as a heading, in prose, in a list, in a cell, and as code."""
    parts = ["# Names & numbers\n"]
    for text in HOSTILE:
        literal = re.sub(r"([\\`*_{}\[\]<>#|&~^$!'\"-])", r"\\\1", text)
        parts.append(f"## {literal}\n\nx {literal} x\n\n- {literal}\n- x {literal}\n")
        parts.append(f"| {literal} | b |\n| :-- | --: |\n| {literal} | 0.5 |\n| 1 | {literal} |\n")
        parts.append(f"```\n{text}\n  {text}\n```\n")
    return "\n".join(parts)


def test_special_characters_mean_nothing():
    latex = to_latex(hostile_document())
    tables = tables_of(latex)
    assert tables == [[[t, "b"], [t, "0.5"], ["1", t]] for t in HOSTILE]
    headings = re.findall(r"^\\section\{(.*)\}\\hypertarget", latex, re.M)
    assert [shown(heading) for heading in headings] == list(HOSTILE)
    assert [shown(t) for t in re.findall(r"^x (.*) x$", latex, re.M)] == list(HOSTILE)
    assert latex.count("\\begin{longtable}") == latex.count("\\end{longtable}") == len(HOSTILE)
    assert "\\title{Names \\& numbers}" in latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_pdflatex_compiles_hostile_documents(tmp_path):
    status, log = compile_pdf(tmp_path, to_latex(hostile_document()))
    assert status == 0, log[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_pdflatex_compiles_the_report(tmp_path):
    text = (ROOT / "Report.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[.*?\]\(.*?\)", "", text)  # its figures are drawn elsewhere
    status, log = compile_pdf(tmp_path, to_latex(text))
    assert status == 0, log[-2000:]
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(wide, default=0) < 15


def test_blocks_have_captions_and_labels():
    text = (
        "<!-- report: a/table-1 -->\n\n| x | y |\n| :-- | --: |\n| 1 | 2 |\n\n"
        "<!-- end of a/table-1 -->\n\n| x |\n| :-- |\n| 1 |\n\n"
        "<!-- report: a/figure-1 -->\n\n![Two & two](figures/a-1.svg)\n\n<!-- end of a/figure-1 -->"
        '\n\n<a id="here"></a>\n\n[there](#here), [a file](records/a_b.json?x=1#top)\n'
    )
    latex = to_latex(text, {"a/table-1": "Scores, 100 %"})
    assert latex.count("\\caption") == 2 and "<!--" not in latex
    assert "\\caption{Scores, 100 \\%}\\label{tab:a-table-1}\\\\" in latex
    assert "\\includegraphics[width=\\linewidth]{figures/a-1.pdf}" in latex
    assert "\\caption{Two \\& two}\\label{fig:a-1}" in latex
    assert "\\hypertarget{here}{}" in latex and "\\hyperlink{here}{there}" in latex
    assert "\\href{records/a\\_b.json?x=1\\#top}{a file}" in latex


def test_letters_that_pdflatex_lacks_are_shown_by_number_with_a_warning():
    with pytest.warns(UserWarning, match="no letters for 中 文, and will show their numbers"):
        latex = to_latex("中文 α\n")
    assert "\\DeclareUnicodeCharacter{4E2D}{{\\scriptsize U+4E2D}}" in latex
    assert "\\DeclareUnicodeCharacter{03B1}{\\ensuremath{\\alpha}}" in latex
    assert "中文 α" in latex.partition("\\begin{document}")[2]  # for xelatex


def test_wide_columns_of_words_are_broken_and_numbers_are_not():
    rows = "".join(f"| {'some words ' * 12}| 0.448 ± 0.003 |\n" for _ in range(3))
    (places,) = re.findall(
        r"\\begin\{longtable\}\{@\{\}(.*)@\{\}\}", to_latex(f"| a | b |\n| :-- | --: |\n{rows}")
    )
    widths = [float(width) for width in re.findall(r"p\{([\d.]+)pt\}", places)]
    assert len(widths) == 2 and 13 * 4.3 <= widths[1] < widths[0]
    assert sum(widths) <= 480


@pytest.mark.parametrize(
    "name, message",
    [("docs/speed.svg", "speed.svg, which LaTeX cannot include; save it as PDF or PNG"),
     ("a{b.png", "'a{b.png', a name that LaTeX cannot include; rename the file")],
)  # fmt: skip
def test_a_figure_that_cannot_be_included_is_an_error(name, message):
    with pytest.raises(ValueError, match=message):
        to_latex(f"![x]({name})\n")
