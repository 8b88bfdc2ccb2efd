"""Text for LaTeX: special characters, addresses, and letters that pdflatex does not know."""

from __future__ import annotations

import re
from urllib.parse import quote

from minbert.checks import warn

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
}
"""Character -> how it is written."""
LIGATURE = re.compile(r"([-',])(?=\1)")
"""The first of two that would become a dash or a quotation mark."""
SPECIALS = str.maketrans(SPECIAL)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Characters that no reader sees, and that a compiler stops at."""
KNOWN = re.compile(
    r"[\x00-\x7f\xa0-\xff\u0100-\u0125\u0128-\u0130\u0132-\u0137\u0139-\u013e\u0141-\u0148"
    r"\u014a-\u0165\u0168-\u017e\u2013\u2014\u2018-\u201a\u201c-\u201e\u2020-\u2022\u2026\u2030"
    r"\u2039\u203a\u20ac\u2122]"
)
"""Characters that pdflatex has in its T1 fonts."""
MATH = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon",
    "η": r"\eta", "θ": r"\theta", "λ": r"\lambda", "μ": r"\mu", "π": r"\pi", "ρ": r"\rho",
    "σ": r"\sigma", "τ": r"\tau", "φ": r"\varphi", "Δ": r"\Delta", "Σ": r"\Sigma",
    "√": r"\surd", "≤": r"\leq", "≥": r"\geq", "≠": r"\neq", "≈": r"\approx", "→": r"\to",
    "←": r"\gets", "−": "-", "∞": r"\infty", "∈": r"\in", "‖": r"\|", "∂": r"\partial",
    "∇": r"\nabla", "⊙": r"\odot", "ᵀ": "^T", "∑": r"\sum", "∏": r"\prod",
    "✓": r"\checkmark", "✗": r"\times", "↓": r"\downarrow", "↑": r"\uparrow",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text as LaTeX that shows it, characters that nobody sees left out."""
    return LIGATURE.sub(r"\1{}", CONTROL.sub("", text).translate(SPECIALS))


def guarded(latex: str) -> str:
    """LaTeX after a command that would take a [ or * at its beginning for an argument."""
    return f"{{}}{latex}" if latex.startswith(("[", "*")) else latex


def breakable(text: str) -> str:
    """Escaped text, a name or a path, that may be broken after / _ . and -, where it is long."""
    return (
        re.sub(r"(?<=\w)(/|\\_|\.|-)(?=\w)", r"\1\\allowbreak{}", text) if len(text) > 12 else text
    )


def url(address: str) -> str:
    """An address as an argument of \\href: what is special there goes as %xx."""
    return quote(CONTROL.sub("", address), safe="/:?=+@!*(),.;%#&_-").translate(
        {ord(c): rf"\{c}" for c in "%#&_"}
    )


def declarations(text: str) -> str:
    """What pdflatex has to be told of the characters of a text, a line each.

    One that it has nothing for is shown by its number, with a warning: XeLaTeX and LuaLaTeX have
    those of their font.
    """
    lines, unknown = [], []
    for character in sorted({c for c in text if not KNOWN.fullmatch(c)}):
        number = f"{ord(character):04X}"
        if character in MATH:
            shown = rf"\ensuremath{{{MATH[character]}}}"
        else:
            unknown.append(character)
            shown = rf"{{\scriptsize U+{number}}}"
        lines.append(f"  \\DeclareUnicodeCharacter{{{number}}}{{{shown}}}\n")
    if unknown:
        warn(
            f"pdflatex has no letters for {' '.join(unknown[:10])}"
            f"{' ...' if len(unknown) > 10 else ''}, and will show their numbers; compile with "
            "xelatex and a font that has them, by \\setmainfont{...}"
        )
    return "".join(lines)
