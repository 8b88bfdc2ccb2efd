"""Where the real data sets live in public, and what their files must be.

The course's files come from its repository at one commit, GLUE's from the archives that GLUE's
download script names. A checksum is of the file as it lies on disk in the end; where a file's own
is not known, that of its archive is given, or else the first download is remembered (see fetch.py).
Counts of rows are those of the published files, as they were read, or as the hub's pages of QQP,
QNLI and MNLI name them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """A file to have in the end."""

    path: str
    """Under the target folder, with forward slashes."""
    sha256: str | None = None
    """None: not known beforehand."""
    rows: int | None = None
    """How many the published file has, bad ones too. None: not known."""


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


_COURSE = (
    "https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/"
    "f25cd95c73a1ce3f3b88dd7a11df90f0ab488bd9/data/"
)
_COURSE_PAGE = "https://github.com/gpoesia/minbert-default-final-project"
_META = "https://dl.fbaipublicfiles.com/"
_GLUE_PAGE = "https://gluebenchmark.com/tasks"


_Rows = tuple[int | None, ...]


def _course(
    stem: str, sums: tuple[str | None, str | None, str | None], *, rows: _Rows, licence: str
) -> Source:
    names = [f"{stem}-{part}.csv" for part in ("train", "dev", "test-student")]
    return Source(
        url=_COURSE,
        files={
            name: File(f"cs224n/{name}", sum_, count)
            for name, sum_, count in zip(names, sums, rows, strict=True)
        },
        licence=licence,
        homepage=_COURSE_PAGE,
    )


def _glue(
    task: str,
    sums: tuple[str | None, ...] = (),
    *,
    rows: _Rows,
    licence: str,
    archive: str = "",
    sha256: str | None = None,
    parts: tuple[str, ...] = ("train", "dev", "test"),
    max_bytes: int = 64_000_000,
) -> Source:
    return Source(
        url=f"{_META}glue/data/{archive or task}.zip",
        files={
            f"{task}/{part}.tsv": File(f"glue/{task}/{part}.tsv", sum_, count)
            for part, sum_, count in zip(parts, sums or [None] * len(parts), rows, strict=True)
        },
        licence=licence,
        homepage=_GLUE_PAGE,
        sha256=sha256,
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
    "sst": _course(
        "ids-sst",
        (
            "03b2b625c090f94a6afd59f114cde5282e2053aab0b101e87ed695d8a0c5b1df",
            "a186ce94577635fbe10beaaddd50f16cccf6c30973221cefdf90deed2a584bfe",
            "bdd5a767faa0c26782117e37767ece154c30d5d04fb8727d09c71e3850a55c7b",
        ),
        rows=(8544, 1101, 2210),
        licence="Stanford Sentiment Treebank (Socher et al. 2013), research use",
    ),
    "cfimdb": _course(
        "ids-cfimdb",
        (
            "140fc513045a966109faed46a5c7a898767b96714d71bcb9c15f659129fadcea",
            "3087f571b66860fe5d035b5a018d08202ad3fd3720e4821c04b2acf6c7ded559",
            "7ae611548c9eac879e9ebb406cc9f8ae68ff12f78090e4965af5cbdfa06240f4",
        ),
        rows=(1707, 245, 488),
        licence="CFIMDB (Kaushik et al. 2020, after IMDB), research use",
    ),
    "para": _course(
        "quora",
        (None, "bfa3cc954a9ba300ae776a980141de65f622a3c1b97e3fd905d63245bc36d5ad", None),
        rows=(None, 20_214, None),
        licence="Quora question pairs, Quora's terms of service, non-commercial use",
    ),
    "sts": _course(
        "sts",
        (
            "15d12efc2d656fffb1d61ac1f08ec4227f43925fd16f420c037cbd063699c21b",
            "ce3cad6f16062586ac7ba462c28b010a9be10c530fd5074165860d7b7ab4e93d",
            "dee455745b72e9ca3ff74e7c056bd73e34bad5b8d5641045a2c1e7e131866f47",
        ),
        rows=(6040, 863, 1725),
        licence="SemEval STS (Agirre et al. 2013), CC BY-SA 4.0 and others",
    ),
    "cola": _glue(
        "CoLA",
        (
            "cb368ebeb9f27d7ad03720d27ddc95687a311bdb100781a2fe59a5f5b1bc0624",
            "8c013e21dc39957cac37378d87bebe225b694a0d5fe13eded66c2856628833fd",
            "3b4df85f7a9a0633574b38d181e18090ac961a24b18fb6bcd74999ddea8ad0b8",
        ),
        sha256="f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
        rows=(8551, 1043, 1063),
        licence="CoLA (Warstadt et al. 2018), fair use of published examples",
    ),
    "sst2": _glue(
        "SST-2",
        (
            "48eac26399f8456935f81dd9e3a745c1430adb6c62e233ccfe22db4a0d15d1d1",
            "54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0",
            "69a938605609b3e6663b4487918fe1565eb293734e6e520d0366d1d412fd2a13",
        ),
        sha256="d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
        rows=(67_349, 872, 1821),
        licence="Stanford Sentiment Treebank (Socher et al. 2013), research use",
    ),
    "mrpc": Source(
        url=_META,
        files={
            "senteval/senteval_data/msr_paraphrase_train.txt": File(
                "glue/MRPC/msr_paraphrase_train.txt",
                "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
            ),
            "senteval/senteval_data/msr_paraphrase_test.txt": File(
                "glue/MRPC/msr_paraphrase_test.txt",
                "a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
            ),
            "glue/data/mrpc_dev_ids.tsv": File(
                "glue/MRPC/mrpc_dev_ids.tsv",
                "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7",
            ),
        },
        derived={
            "train": File(
                "glue/MRPC/train.tsv",
                "69abcedee3cf738c6ce58d772e43e1b7cdf5b4edee4aceda459c0d9f4e5599f3",
                3668,
            ),
            "dev": File(
                "glue/MRPC/dev.tsv",
                "9e8f284788040f7c9ecde2e1b3c07237c756f926bd9ef8548ef5d34b56f69f17",
                408,
            ),
            "test": File(
                "glue/MRPC/test.tsv",
                "aee460ceda833926b8ab2ad952d399f5cf8bc9335cff19afcac03dc449558622",
                1725,
            ),
        },
        derive=_derive_mrpc,
        licence="Microsoft Research Paraphrase Corpus (Dolan and Brockett 2005), its own licence",
        homepage="https://www.microsoft.com/en-us/download/details.aspx?id=52398",
    ),
    "stsb": _glue(
        "STS-B",
        (
            "41c4d978b6162abdcada7e49a982211954cca5459c228db478af333124b257a2",
            "fe7dc0632a5033562f3cadff991f6e8d9b9b6311861660e78c3c82eb7db67f59",
            "16b4223d7d44a644fbc10f1b449472cfe81e1715fb07cf44023b0aa88ce856eb",
        ),
        sha256="e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85",
        rows=(5749, 1500, 1379),
        licence="STS benchmark (Cer et al. 2017), CC BY-SA 4.0 and others",
    ),
    "qqp": _glue(
        "QQP",
        archive="QQP-clean",
        sha256="40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
        max_bytes=256_000_000,
        rows=(363_846, 40_430, 390_965),
        licence="Quora question pairs, Quora's terms of service, non-commercial use",
    ),
    "qnli": _glue(
        "QNLI",
        (
            None,
            "ac19409dcb04631eaaa094bdebdcf621086bc352503dfb6a1a648b614986f4fd",
            "6d856264e292fa7a7bc7b8e182efa1454ffd9532733c12ad813017dd5b377a5a",
        ),
        archive="QNLIv2",
        sha256="e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5",
        rows=(104_743, 5463, 5463),
        licence="QNLI (Wang et al. 2018, after SQuAD), CC BY-SA 4.0",
    ),
    "rte": _glue(
        "RTE",
        (
            "41e3a9b063433392343fad9e962cf2f58b681c78d8f71592f4186f0837246c5c",
            "80230dfa1347282e7b532b06a1004a76a710087541189bf874223ddf0e3819fb",
            "6e33f09b5c2bfd5fd5fde217070f3dd49e484e33b9752b5864cf36fc421a213f",
        ),
        sha256="6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee",
        rows=(2490, 277, 3000),
        licence="RTE (Dagan et al. 2006 and others), research use",
    ),
    "wnli": _glue(
        "WNLI",
        (
            "9a88e9d54b6861cc796a088e9acf4f5f65064a9ef65ae6fa7a688b28391e5c9a",
            "cba00490596dd14be8cf53b4f53bb744abe3a7b89f81ab210528d80225338ed5",
            "ff0296817e235bf6f7a230c5f6781bd6ee228a45445f6510831fdef6f2a04766",
        ),
        sha256="ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46",
        rows=(635, 71, 146),
        licence="WNLI (Levesque et al. 2011), CC BY 4.0",
    ),
    "mnli": _glue(
        "MNLI",
        parts=("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched"),
        sha256="e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633",
        max_bytes=1_000_000_000,
        rows=(392_702, 9815, 9832, 9796, 9847),
        licence="MultiNLI (Williams et al. 2018), OANC licence, CC BY-SA 3.0 and others",
    ),
    "ax": Source(
        url=f"{_META}glue/data/",
        files={
            "AX.tsv": File(
                "glue/diagnostic/diagnostic.tsv",
                "0e13510b1bb14436ff7e2ee82338f0efb0133ecf2e73507a697dc210db3f05fd",
                1104,
            )
        },
        licence="GLUE diagnostic set (Wang et al. 2018), research use",
        homepage=_GLUE_PAGE,
    ),
}
"""The known data sets by name."""

FILES: dict[str, File] = {
    file.path.partition("/")[2]: file
    for source in SOURCES.values()
    for file in [*source.files.values(), *(source.derived or {}).values()]
}
"""The same files by their path in a task's tables, such as MRPC/train.tsv."""

ALL: tuple[str, ...] = tuple(SOURCES)
COURSE: tuple[str, ...] = ("sst", "cfimdb", "para", "sts", "cola")
"""The sets of the project's own tasks: some 45 MB, where ALL is ten times that."""
