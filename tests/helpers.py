"""What several tests share: a tiny random backbone, tiny learnable data in the real formats, and a
trainer on them."""

import csv
import itertools
import random

import torch

from minbert import Bert, Tokenizer, load_backbone, save_pretrained
from minbert.tokenization import SPECIAL_TOKENS
from minbert.vocabulary import learn_tokenizer
from multitask import ContrastConfig, MultitaskModel, PretrainConfig, TrainConfig
from multitask.contrast_stage import load_pairs
from multitask.dataset import cache_features, load_data
from multitask.loop.trainer import Trainer
from multitask.model import EmbeddingModel, MaskedLanguageModel
from multitask.pretraining import load_text
from multitask.runs.origin import backbone_of
from multitask.runs.run import Run

MADE_UP_RECORD = {
    "score": 0.5, "overall": {}, "before": None, "best_epoch": 3, "epochs": 4, "steps": 30,
    "seconds": 40.0, "peak_memory_mb": 900.0, "parameters": {"trained": 900, "all": 22_000_000},
    "rows": {"": {"train": 4000}}, "skipped": 0, "backbone": {"source": "minilm"},
    "commit": "0123456789abcdef", "versions": {"torch": "2.13.0"}, "device": "a made-up CPU",
    "threads": 1,
}  # fmt: skip
"""What every record has, of a run that never was, but for its dev and config."""
MADE_UP_CONFIG = {
    "command": "train", "tasks": ["sst"], "epochs": 4, "seed": 1, "lr": 1e-4, "batch_size": 16,
    "accumulate": 1, "precision": "fp32", "limit": None, "extensions": [],
}  # fmt: skip
FILLERS = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "nt"]
SIGNS = {
    "sst": ["awful", "poor", "plain", "good", "superb"],
    "para": ["other", "same"],
    "sts": ["zero", "one", "two", "three", "four", "five"],
    "cola": ["wrong", "right"],
}
"""The word that gives each label away."""
FILES = {"sst": "ids-sst", "para": "quora", "sts": "sts"}
LABELS = {"sst": "sentiment", "para": "is_duplicate", "sts": "similarity"}
NUMBERS = itertools.count()
ROWS = {"train": 22, "dev": 15, "test": 7}


def write_backbone(folder, *, encoder=Bert, hidden_size=16, seed=0, **sizes):
    """An encoder of two layers with random weights, as a folder that `load_backbone` loads."""
    signs = [sign for signs in SIGNS.values() for sign in signs]
    if encoder.TOKENIZER == "wordpiece":
        tokenizer = Tokenizer.from_tokens([*SPECIAL_TOKENS, *FILLERS, *signs])
    else:  # with signs so often that each becomes a token
        texts = [" ".join(FILLERS), *signs * 9]
        tokenizer = learn_tokenizer(encoder.TOKENIZER, lambda: texts, vocab_size=420)
    torch.manual_seed(seed)
    config = encoder.Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_layers=2,
        num_heads=2,
        intermediate_size=24,
        initializer_range=0.3,  # far from linear, so that no mistake hides in small numbers
        **{name: getattr(tokenizer, own) for name, own in encoder.Config.TOKEN_IDS.items()},
        **{"max_positions": 32, **sizes},
    )
    return save_pretrained(folder, encoder(config), tokenizer)


def write_table(path, rows, *, quoted=True):
    """Tab-separated rows, as the course (quoted) or GLUE (not quoted) writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        if quoted:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
        else:
            file.writelines("\t".join(map(str, row)) + "\n" for row in rows)
    return path


def write_data(folder, rows=ROWS, seed=0):
    """Files of sst, para, sts and cola in which one word gives the label away."""
    draw = random.Random(seed)

    def text(sign=None):
        words = draw.choices(FILLERS, k=draw.randint(1, 7))
        words.insert(draw.randint(0, len(words)), sign or draw.choice(FILLERS))
        return " ".join(words)

    for task, signs in SIGNS.items():
        for split, count in rows.items():
            table = []
            for number in range(count):
                label = number % len(signs)
                row_id = f"{task}-{split}-{number}"
                if task == "cola":
                    row = ["gj04", label, "", text(signs[label])]
                    table.append([number, row[3]] if split == "test" else row)
                    continue
                pair = [] if task == "sst" else [text()]
                row = [number, row_id, *pair, f" {text(signs[label])}", label]
                table.append([number, float(number), *row[1:-1]] if split == "test" else row)
            if task == "cola":
                head = [["index", "sentence"]] if split == "test" else []
                write_table(folder / f"CoLA/{split}.tsv", head + table, quoted=False)
                continue
            names = ["id", "sentence"] if task == "sst" else ["id", "sentence1", "sentence2"]
            head = ["0", "", *names] if split == "test" else ["", *names, LABELS[task]]
            part = "test-student" if split == "test" else split
            write_table(folder / f"{FILES[task]}-{part}.csv", [head, *table])
    return folder


def write_data_with_bad_rows(folder):
    """The same with a row in each training file that cannot be read."""
    write_data(folder)
    for path in folder.rglob("*train*"):
        with path.open("a", encoding="utf-8") as file:
            file.write("a row of one column\n")
    return folder


def tiny(folder):
    """A folder with a backbone and data: what `config` starts from."""
    write_backbone(folder / "backbone")
    write_data(folder / "data")
    return folder


def config(folder, out=None, **changes):
    """A short run on the tiny data, without dropout; by default in a folder of its own."""
    settings = {
        "tasks": ("sst", "sts"),
        "data_dir": folder / "data",
        "backbone": str(folder / "backbone"),
        "out": folder / (out or f"run{next(NUMBERS)}"),
        "head_size": 8,
        "head_dropout": 0.0,
        "encoder_dropout": None if changes.get("frozen") else 0.0,
        "epochs": 2,
        "batch_size": 8,
        "lr": 1e-2,
        "log_every": 1,
        "device": "cpu",
    }
    return TrainConfig(**{**settings, **changes})


def make_trainer(settings, dtype=torch.float32):
    """What `train` makes before it trains."""
    backbone = load_backbone(settings.backbone)
    data = load_data(settings, backbone.tokenizer, backbone.encoder.config.max_positions)
    model = MultitaskModel.from_config(settings, backbone.encoder).to(dtype)
    if settings.frozen:
        cache_features(model, data, progress=False)
    run = Run(settings.out)
    run.create(settings, backbone)
    trainer = Trainer(settings, model, data, run, progress_bar=False)
    trainer.begin()
    return trainer


def weights(trainer):
    """A copy of what a trainer trains."""
    return {name: p.detach().clone() for name, p in trainer.parameters.items()}


def without_seconds(lines):
    """Lines of metrics.jsonl without the one thing in them that a clock gave."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def contents(folder):
    """The files of a folder, byte for byte."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pretrain_config(folder, out=None, **changes):
    """A short pre-training run on the tiny data's text, without dropout."""
    made = changes.get("from_scratch") or changes.get("encoder_config")
    settings = {
        "tasks": ("sst",),
        "data_dir": folder / "data",
        **({} if made else {"backbone": str(folder / "backbone")}),
        "out": out or folder / f"run{next(NUMBERS)}",
        "encoder_dropout": 0.0,
        "epochs": 2,
        "batch_size": 8,
        "lr": 1e-3,
        "log_every": 1,
        "mask_rate": 0.3,
        "device": "cpu",
    }
    return PretrainConfig(**{**settings, **changes})


def make_pretrainer(settings, dtype=torch.float64):
    """What `train` makes before it pre-trains."""
    run = Run(settings.out)
    backbone = backbone_of(settings)
    data = load_text(settings, backbone, run, resumed=False)
    model = MaskedLanguageModel.from_config(settings, backbone).to(dtype)
    run.create(settings, backbone)
    return Trainer(settings, model, data, run, progress_bar=False)


def contrast_config(folder, out=None, **changes):
    """A short contrastive stage on the tiny data's pairs, without dropout."""
    settings = {
        "tasks": ("sts",),
        "data_dir": folder / "data",
        "backbone": str(folder / "backbone"),
        "out": out or folder / f"run{next(NUMBERS)}",
        "encoder_dropout": 0.1 if changes.get("objective") == "simcse" else 0.0,
        "positive_above": 0.4,
        "epochs": 2,
        "batch_size": 4,
        "lr": 1e-3,
        "log_every": 1,
        "device": "cpu",
    }
    return ContrastConfig(**{**settings, **changes})


def make_contraster(settings, dtype=torch.float64):
    """What `train` makes before a contrastive stage."""
    backbone = backbone_of(settings)
    data = load_pairs(settings, backbone.tokenizer, backbone.encoder.config.max_positions)
    model = EmbeddingModel.from_config(settings, backbone.encoder).to(dtype)
    run = Run(settings.out)
    run.create(settings, backbone)
    return Trainer(settings, model, data, run, progress_bar=False)
