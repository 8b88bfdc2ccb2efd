"""Where the real data sets live in public, and what their files must be.

The course's files come from its repository at one commit, GLUE's from the archives that GLUE's
download script names. What each file must be stands in published.tsv: its path under the data
folder, its rows and its checksum. A checksum is of the file as it lies on disk in the end; where a
file's own is not known, that of its archive is given, or else the first download is remembered (see
fetch.py). Of a file too large to have been read here, the checksum is the name that git has for
its content in the repository it comes from. Counts of rows are those of the published files, as
they were read, or as the hub's pages of QQP, QNLI and MNLI, or a course's own words, name them.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from minbert.files import sha256_of


@dataclass(frozen=True)
class File:
    """A file to have in the end."""

    path: str
    """Under the target folder, with forward slashes."""
    sha256: str | None = None
    """None: not known beforehand."""
    rows: int | None = None
    """How many the published file has, bad ones too. None: not known."""
    git_blob: str | None = None
    """What git calls the file's content, where its sha256 is not known: see `git_blob_of`."""

    @property
    def is_known(self) -> bool:
        """Whether there is a checksum to compare with."""
        return bool(self.sha256 or self.git_blob)

    def wrong(self, path: Path) -> str | None:
        """How the file at `path` differs from the published one, None if its checksum agrees."""
        for kind, expected, found in (
            ("sha256", self.sha256, sha256_of),
            ("git blob", self.git_blob, git_blob_of),
        ):
            if expected is not None and (actual := found(path)) != expected:
                return f"has {kind} {actual}, not {expected}"
        return None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set and its home."""

    url: str
    """A zip archive (ends in .zip), or the folder that the files' names are appended to."""
    files: Mapping[str, File]
    """Name inside the archive or the folder -> the file it becomes."""
    licence: str
    homepage: str
    sha256: str | None = None
    """Checksum of the archive."""
    max_bytes: int = 64_000_000
    """More than this, downloaded or unpacked, is refused."""
    derived: Mapping[str, File] | None = None
    """Name -> a file that `derive` makes out of the fetched ones."""
    derive: Callable[[Path], None] | None = None
    """Given the target folder, writes what `derived` lists, each to `<path>.part`."""


def git_blob_of(path: Path) -> str:
    """What git calls a file's content: SHA-1 of "blob", its size in bytes, a zero byte, and it."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _published() -> dict[str, File]:
    """The files of published.tsv by their paths."""
    with Path(__file__).with_name("published.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {
            row["path"]: File(
                row["path"],
                row["sha256"] or None,
                int(row["rows"] or 0) or None,
                row["git_blob"] or None,
            )
            for row in rows
        }


_PUBLISHED = _published()
_META = "https://dl.fbaipublicfiles.com/"
_GLUE_PAGE = "https://gluebenchmark.com/tasks"


_OF_2023 = "gpoesia/minbert-default-final-project", "f25cd95c73a1ce3f3b88dd7a11df90f0ab488bd9"
_OF_2025 = "cfifty/public_cs224n_gpt", "7570cfa4385f3417298573c770df5ddfe2d97f89"
"""Repositories of the course, and the commit of each."""


def _course(
    stem: str, licence: str, *, home: tuple[str, str] = _OF_2023, becomes: str | None = None
) -> Source:
    """Files of the course, `{stem}-train.csv` and so on, which may become others by name."""
    repository, commit = home
    parts = ("train", "dev", "test-student")
    return Source(
        url=f"https://raw.githubusercontent.com/{repository}/{commit}/data/",
        files={
            f"{stem}-{part}.csv": _PUBLISHED[f"cs224n/{becomes or stem}-{part}.csv"]
            for part in parts
        },
        licence=licence,
        homepage=f"https://github.com/{repository}",
    )


def _glue(
    task: str,
    licence: str,
    *,
    archive: str = "",
    parts: tuple[str, ...] = ("train", "dev", "test"),
    max_bytes: int = 64_000_000,
) -> Source:
    archive = f"{archive or task}.zip"
    names = [f"{task}/{part}.tsv" for part in parts]
    return Source(
        url=f"{_META}glue/data/{archive}",
        files={name: _PUBLISHED[f"glue/{name}"] for name in names},
        licence=licence,
        homepage=_GLUE_PAGE,
        sha256=_PUBLISHED[archive].sha256,
        max_bytes=max_bytes,
    )


def _derive_mrpc(target: Path) -> None:
    """GLUE's train, dev and test tables out of the corpus and GLUE's list of dev pairs."""
    folder = target / "glue" / "MRPC"
    with (folder / "mrpc_dev_ids.tsv").open(encoding="utf-8") as file:
        dev_ids = {tuple(row) for row in csv.reader(file, delimiter="\t")}
    lines = (folder / "msr_paraphrase_train.txt").read_text(encoding="utf-8").split("\n")
    # The corpus starts with a byte order mark, and so do GLUE's train and dev tables.
    tables = {"train": [lines[0]], "dev": [lines[0]]}
    for line in filter(None, lines[1:]):
        fields = line.strip().split("\t")
        tables["dev" if tuple(fields[1:3]) in dev_ids else "train"].append("\t".join(fields))
    lines = (folder / "msr_paraphrase_test.txt").read_text(encoding="utf-8").split("\n")
    tables["test"] = ["index\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    for index, line in enumerate(filter(None, lines[1:])):
        tables["test"].append("\t".join([str(index), *line.strip().split("\t")[1:]]))
    for name, rows in tables.items():
        with (folder / f"{name}.tsv.part").open("w", encoding="utf-8", newline="") as file:
            file.writelines(f"{row}\n" for row in rows)


SOURCES: dict[str, Source] = {
    "sst": _course("ids-sst", "Stanford Sentiment Treebank (Socher et al. 2013), research use"),
    "cfimdb": _course("ids-cfimdb", "CFIMDB (Kaushik et al. 2020, after IMDB), research use"),
    "para": _course("quora", "Quora question pairs, Quora's terms of service, non-commercial use"),
    "para_large": _course(
        "quora",
        "Quora question pairs, Quora's terms of service, non-commercial use",
        home=_OF_2025,
        becomes="quora-large",
    ),
    "sts": _course("sts", "SemEval STS (Agirre et al. 2013), CC BY-SA 4.0 and others"),
    "cola": _glue("CoLA", "CoLA (Warstadt et al. 2018), fair use of published examples"),
    "sst2": _glue("SST-2", "Stanford Sentiment Treebank (Socher et al. 2013), research use"),
    "mrpc": Source(
        url=_META,
        files={
            name: _PUBLISHED[f"glue/MRPC/{Path(name).name}"]
            for name in (
                "senteval/senteval_data/msr_paraphrase_train.txt",
                "senteval/senteval_data/msr_paraphrase_test.txt",
                "glue/data/mrpc_dev_ids.tsv",
            )
        },
        derived={part: _PUBLISHED[f"glue/MRPC/{part}.tsv"] for part in ("train", "dev", "test")},
        derive=_derive_mrpc,
        licence="Microsoft Research Paraphrase Corpus (Dolan and Brockett 2005), its own licence",
        homepage="https://www.microsoft.com/en-us/download/details.aspx?id=52398",
    ),
    "stsb": _glue("STS-B", "STS benchmark (Cer et al. 2017), CC BY-SA 4.0 and others"),
    "qqp": _glue(
        "QQP",
        "Quora question pairs, Quora's terms of service, non-commercial use",
        archive="QQP-clean",
        max_bytes=256_000_000,
    ),
    "qnli": _glue("QNLI", "QNLI (Wang et al. 2018, after SQuAD), CC BY-SA 4.0", archive="QNLIv2"),
    "rte": _glue("RTE", "RTE (Dagan et al. 2006 and others), research use"),
    "wnli": _glue("WNLI", "WNLI (Levesque et al. 2011), CC BY 4.0"),
    "mnli": _glue(
        "MNLI",
        "MultiNLI (Williams et al. 2018), OANC licence, CC BY-SA 3.0 and others",
        parts=("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched"),
        max_bytes=1_000_000_000,
    ),
    "ax": Source(
        url=f"{_META}glue/data/",
        files={"AX.tsv": _PUBLISHED["glue/diagnostic/diagnostic.tsv"]},
        licence="GLUE diagnostic set (Wang et al. 2018), research use",
        homepage=_GLUE_PAGE,
    ),
}
"""The known data sets by name."""

FILES: dict[str, File] = {
    path.partition("/")[2]: file for path, file in _PUBLISHED.items() if "/" in path
}
"""The published files by their path in a task's tables, such as MRPC/train.tsv."""

ALL: tuple[str, ...] = tuple(SOURCES)
COURSE: tuple[str, ...] = ("sst", "cfimdb", "para", "sts", "cola")
"""The sets of the project's own tasks: some 45 MB, where ALL is ten times that."""
