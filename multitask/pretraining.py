"""What a pre-training run has of its own: its text, and an encoder from scratch if asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from data.masking import MaskedRows, Masker
from data.readers import SAMPLES, BadRow, read_split, spread
from data.tasks import MLM, Split, get_task
from data.text import Text, held_out, lines_of, path_of, read_tokens, write_tokens
from minbert.encoder import Encoder, EncoderConfig
from minbert.encoders import encoder_class
from minbert.loading import (
    Backbone,
    blank_backbone,
    empty_encoder,
    read_config,
    save_pretrained,
)
from minbert.tokenization import Tokenizer
from minbert.vocabulary import learn_tokenizer
from multitask import distributed
from multitask.config import PretrainConfig
from multitask.dataset import TaskData, longest_row
from multitask.model import MaskedLanguageModel
from multitask.runs.run import Run

TRAIN_MASKS, DEV_MASKS = 3, 4
"""Numbers that keep these draws apart from others of the same seed."""


def load_text(
    config: PretrainConfig, backbone: Backbone, run: Run, *, resumed: bool
) -> dict[str, TaskData]:
    """The text as rows to mask; the first process tokenizes it into the run folder, apart from
    an earlier run's text until `Run.create`.

    Training rows are masked anew each time they come. Development rows have the same masks in
    every run, so that runs can be compared.
    """
    tokenizer = backbone.tokenizer
    max_length = longest_row(config, backbone.encoder.config.max_positions)
    data = TaskData(MLM, {}, [], {})
    masker = Masker(
        tokenizer,
        rate=config.mask_rate,
        mask_share=config.mask_share,
        random_share=config.random_share,
        whole_words=config.whole_words,
    )
    seeds: dict[Split, tuple[int, int]] = {
        "train": (config.seed, TRAIN_MASKS),
        "dev": (0, DEV_MASKS),
    }
    for split, seed in seeds.items():
        stem = (run.text if resumed else run.new_text) / split

        def write(stem: Path = stem, split: Split = split) -> None:
            # Tasks' rows are few: a resumed run reads them again, and finds the bad ones again.
            if resumed and not config.tasks and path_of(stem, "lengths").exists():
                return
            texts = read_text(config, split, data.skipped)
            write_tokens(stem, texts, tokenizer, max_length=max_length)

        distributed.by_writer(write)
        data.sources[split] = MaskedRows(
            read_tokens(stem), masker, seed=seed, pad_id=tokenizer.pad_id, layout=config.layout
        )
    held_out_rows = data.sources["dev"]
    if not any(held_out_rows.batch([row]).weight for row in range(len(held_out_rows.ids))):
        raise ValueError(
            f"no token of the held-out text is masked, in {len(held_out_rows.ids)} rows, so there "
            "is nothing to score; hold out more (a smaller hold_out, or longer dev_text), or raise "
            "mask_rate"
        )
    return {MLM.name: data}


def read_text(config: PretrainConfig, split: Split, skipped: list[BadRow]) -> Iterator[Text]:
    """The texts of a split, tasks' rows first; bad rows are added to `skipped`."""
    limit = config.limit if split == "train" else None
    for name in config.tasks:
        data_dir = config.data_dir or SAMPLES
        rows = read_split(get_task(name), split, data_dir, on_bad_row=config.on_bad_row)
        skipped += rows.skipped
        yield from (example.texts for example in spread(rows.examples, limit))
    if split == "train":
        lines = lines_of(config.text)
        if not config.dev_text:
            lines = held_out(lines, config.hold_out, kept=True)
        yield from islice(lines, limit)
    elif config.dev_text:
        yield from lines_of(config.dev_text)
    else:
        yield from held_out(lines_of(config.text), config.hold_out, kept=False)


def make_backbone(config: PretrainConfig) -> Backbone:
    """An encoder from scratch, with a tokenizer that the first process learns from the text."""

    def texts() -> Iterator[str]:
        return (text for row in read_text(config, "train", []) for text in row)

    def describe() -> tuple[type[Encoder], EncoderConfig, Tokenizer]:
        if config.encoder_config:
            cls, described = read_config(config.encoder_config)
        else:
            assert config.from_scratch is not None
            cls = encoder_class(config.from_scratch)
            described = cls.Config.of_size(config.size)
        tokenizer = learn_tokenizer(cls.TOKENIZER, texts, vocab_size=config.vocab_size)
        ids = {name: getattr(tokenizer, own) for name, own in described.TOKEN_IDS.items()}
        return cls, replace(described, vocab_size=len(tokenizer), **ids), tokenizer

    return blank_backbone(*distributed.by_writer(describe), seed=config.seed)


def save_backbone(run: Run, model: MaskedLanguageModel) -> None:
    """Write encoder and head as an ordinary backbone to the run folder; all processes call this."""
    whole = {name: distributed.full(p) for name, p in model.named_parameters()}
    if not distributed.is_writer():
        return
    encoder = empty_encoder(run.backbone)  # a copy, for the model's own weights may be split
    head = encoder.make_mlm_head()
    with torch.no_grad():
        for name, parameter in MaskedLanguageModel(encoder, head).named_parameters():
            parameter.copy_(whole[name])
    save_pretrained(run.backbone, encoder, Tokenizer.from_folder(run.backbone), mlm_head=head)
