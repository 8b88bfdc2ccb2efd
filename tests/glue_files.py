"""GLUE's own files, written small: their columns, labels and oddities."""

from data.tasks import get_task

PAIR = "sentence1 sentence2"
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2"
MNLI = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse "
    "sentence2_parse sentence1 sentence2"
)
MRPC = "Quality,#1 ID,#2 ID,#1 String,#2 String"
DEV_LABELS = "label1 label2 label3 label4 label5 gold_label"
HEADERS = {
    "sst2": {"train": "sentence label", "dev": "sentence label", "test": "index sentence"},
    "mrpc": {"train": MRPC, "dev": MRPC, "test": MRPC.replace("Quality", "index")},
    "stsb": {"train": f"{STSB} score", "dev": f"{STSB} score", "test": STSB},
    "qqp": {
        "train": "id qid1 qid2 question1 question2 is_duplicate",
        "dev": "id qid1 qid2 question1 question2 is_duplicate",
        "test": "id question1 question2",
    },
    "mnli": {
        "train": f"{MNLI} label1 gold_label",
        "dev": f"{MNLI} {DEV_LABELS}",
        "dev_mismatched": f"{MNLI} {DEV_LABELS}",
        "test": MNLI,
        "test_mismatched": MNLI,
    },
    "qnli": {
        "train": "index question sentence label",
        "dev": "index question sentence label",
        "test": "index question sentence",
    },
    "rte": {"train": f"index {PAIR} label", "dev": f"index {PAIR} label", "test": f"index {PAIR}"},
    "wnli": {"train": f"index {PAIR} label", "dev": f"index {PAIR} label", "test": f"index {PAIR}"},
    "ax": {"test": f"index {PAIR}"},
}
"""First lines of the real files."""
TEXTS = {"sentence", "sentence1", "sentence2", "question", "question1", "question2", "#1 String",
         "#2 String"}  # fmt: skip
GOLD = {"label", "Quality", "score", "is_duplicate", "gold_label"}
WORDS = {
    "mnli": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"],
    "rte": ["entailment", "not_entailment"],
    "stsb": ["0.000", "3.250", "5.000"],
}
"""What stands for labels, in the order of their numbers; elsewhere 0 and 1."""
ODD = ['" unbalanced', 'a "b" c', '"', "it 's `` so '' ", "naïve 東京", "a\u2028b", "a, b"]


def write(folder, name, split, count=7):
    """A file as GLUE has it: UTF-8 with its byte order mark in MRPC, no quoting."""
    path = folder / get_task(name).tables[split].path
    path.parent.mkdir(parents=True, exist_ok=True)
    header = HEADERS[name][split]
    columns = header.split("," if "," in header else None)
    words = WORDS.get(name, ["0", "1"])
    lines = ["\t".join(columns)]
    for number in range(count):
        row = []
        for column in columns:
            if column in TEXTS:
                row.append(f"{column} {ODD[(number + len(row)) % len(ODD)]}")
            elif column in GOLD:
                row.append(words[number % len(words)])
            elif column in ("index", "id"):
                row.append(str(number + 10))
            else:
                row.append(f"{column}-{number % 2}")
        lines.append("\t".join(row))
    mark = "\ufeff" if name == "mrpc" and split != "test" else ""
    path.write_bytes((mark + "\n".join(lines) + "\n").encode())
    return path
