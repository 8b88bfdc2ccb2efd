"""Published recipes for GLUE: a recipe is a function from a task to its TrainConfig.

    replace(modernbert("mrpc"), epochs=2, seed=1)

Each says where its settings are from; a setting that is not named there is TrainConfig's own. Where
the published one has transformers' classification head, so has it here; the others have this
library's, with a shared layer. A run keeps the epoch with the best development score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from minbert.files import read_json
from multitask.config import TrainConfig
from multitask.extensions.base import Extension
from multitask.extensions.bitfit import BitFit
from multitask.extensions.layer_lr import LayerLR
from multitask.extensions.lora import LoRA

Recipe = Callable[[str], TrainConfig]
Method = Literal["full", "lora", "bitfit"]

TASKS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
"""The nine tasks; MNLI's model answers its second development set and the diagnostic set too."""
FROM_MNLI = ("rte", "mrpc", "stsb")
"""Tasks that gain from an encoder that was trained on MNLI first."""


def bert(task: str) -> TrainConfig:
    """BERT-base's, after transformers' run_glue: rate 2e-5, batch 32, length 128, 3 epochs (5 for
    the small MRPC and WNLI), no weight decay, no warm-up, its AdamW's eps of 1e-8. Devlin et al.
    (2018), arXiv:1810.04805, take the best rate of 2e-5, 3e-5, 4e-5 and 5e-5 for each task."""
    return TrainConfig(
        tasks=(task,),
        head="linear",
        epochs=5 if task in ("mrpc", "wnli") else 3,
        batch_size=32,
        max_length=128,
        lr=2e-5,
        warmup=0.0,
        weight_decay=0.0,
        eps=1e-8,
    )


def convbert(task: str) -> TrainConfig:
    """ConvBERT-base's by its published code, yitu-opensource/ConvBert (configure_finetuning.py;
    Jiang et al., 2020, arXiv:2008.02496): rate 1e-4 that decays by 0.8 a layer, batch 32, length
    128, 3 epochs (10 for RTE and STS-B), pairs of MRPC and STS-B in both orders. The code puts the
    last layer two steps below the classifier, as if a pooler stood between."""
    return TrainConfig(
        tasks=(task,),
        head="linear",
        both_orders=task in ("mrpc", "stsb"),
        epochs=10 if task in ("rte", "stsb") else 3,
        batch_size=32,
        max_length=128,
        lr=0.8 * 1e-4,  # one of the two steps; the next layers go on from here
        warmup=0.1,
        weight_decay=0.01,
        extensions=(LayerLR(decay=0.8, heads=1 / 0.8),),
    )


def modernbert(task: str) -> TrainConfig:
    """ModernBERT's by its published code, AnswerDotAI/ModernBERT (src/evals/glue_jobs.py and
    generate_eval_config.py; Warner et al., 2024, arXiv:2412.13663): a row of `_MODERNBERT` for each
    task, linear with a tenth of warm-up, betas 0.9 and 0.98, rows of up to 256 tokens. RTE, MRPC
    and STS-B start from an MNLI model there: use --start-from. WNLI, left out there, as RTE."""
    return _jobs_config(task, _MODERNBERT, warmup=0.1)


def mosaicbert(task: str) -> TrainConfig:
    """MosaicBERT's by its published code (mosaicml/examples, benchmarks/bert, finetuning_jobs.py
    and the yaml files beside it; Portes et al., 2023, arXiv:2312.17482), which runs BERT-base by
    the same settings: ModernBERT's, but for MNLI and for a warm-up of 0.06."""
    jobs = {**_MODERNBERT, "mnli": (5e-5, 5e-6, 3, 48)}
    return replace(_jobs_config(task, jobs, warmup=0.06), head_dropout=0.1)


_MODERNBERT = {
    "cola": (5e-5, 5e-6, 10, 32),
    "sst2": (3e-5, 3e-6, 3, 16),
    "mrpc": (8e-5, 8e-6, 10, 32),
    "stsb": (3e-5, 3e-6, 10, 32),
    "qqp": (3e-5, 3e-6, 5, 16),
    "mnli": (5e-5, 1e-6, 2, 64),
    "qnli": (1e-5, 1e-6, 10, 16),
    "rte": (1e-5, 1e-5, 3, 16),
    "wnli": (1e-5, 1e-5, 3, 16),
}
"""Task -> rate, weight decay, epochs, batch size."""


def _jobs_config(
    task: str, jobs: Mapping[str, tuple[float, float, int, int]], *, warmup: float
) -> TrainConfig:
    """The config of a job of Composer's, whose decay is the share of a weight that goes in a step
    at the highest rate: DecoupledAdamW multiplies it by rate / highest rate. That of this AdamW, as
    PyTorch's, is multiplied by the rate, so it is the former over the highest rate: 0.1 mostly."""
    lr, decay, epochs, batch_size = jobs[task]
    return TrainConfig(
        tasks=(task,),
        head="linear",
        head_dropout=0.0,
        epochs=epochs,
        batch_size=batch_size,
        max_length=256,
        lr=lr,
        warmup=warmup,
        weight_decay=decay / lr,
        beta2=0.98,
        eps=1e-6,
    )


def modernbert_short(task: str) -> TrainConfig:
    """ModernBERT-base's by the notebook that its authors publish with it (examples/
    finetune_modernbert_on_glue.ipynb), a run on MRPC: 2 epochs at 8e-5 in batches of 32, linear,
    without warm-up; here for every task. It names a decay of 8e-6 and does not pass it on; for
    PyTorch's AdamW, with which it trains, that is next to none."""
    config = replace(modernbert(task), epochs=2, batch_size=32, max_length=None)
    return replace(config, lr=8e-5, weight_decay=8e-6, warmup=0.0)


def lora(task: str) -> TrainConfig:
    """LoRA's on RoBERTa-base (Hu et al., 2021, arXiv:2106.09685, table 9): rank 8 on queries and
    values, alpha 16 as in its published code, weight decay 0.1. WNLI, left out there, as RTE."""
    lr, epochs, batch_size = {
        "mnli": (5e-4, 30, 16),
        "sst2": (5e-4, 60, 16),
        "mrpc": (4e-4, 30, 16),
        "cola": (4e-4, 80, 32),
        "qnli": (4e-4, 25, 32),
        "qqp": (5e-4, 25, 16),
        "rte": (5e-4, 80, 32),
        "wnli": (5e-4, 80, 32),
        "stsb": (4e-4, 40, 16),
    }[task]
    return TrainConfig(
        tasks=(task,),
        pooling="cls",
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        warmup=0.06,
        weight_decay=0.1,
        extensions=(LoRA(rank=8, alpha=16.0, targets=("query", "value")),),
    )


def bitfit(task: str) -> TrainConfig:
    """BitFit's (Ben Zaken et al., 2022, arXiv:2106.10199) on BERT-base-cased: all biases at 1e-3,
    where full fine-tuning wants 1e-5; else as bert, without weight decay."""
    return replace(bert(task), lr=1e-3, extensions=(BitFit(),))


def minilm(task: str) -> TrainConfig:
    """For MiniLM (22 million parameters) on a CPU, found by trials on the development sets."""
    config = TrainConfig(
        tasks=(task,),
        pooling="mean",
        batches="bucketed",
        max_length=128,
        lr=1e-4,
        epochs=4,
    )
    match task:
        case "stsb":  # MiniLM was trained to put the cosine of similar sentences near 1
            return replace(config, pair="cosine", lr=5e-5, epochs=1)
        case "sst2":
            config = replace(config, pooling="max", head_dropout=0.2)
            return replace(config, batch_size=32, lr=7e-5, epochs=3)
        case "qqp" | "mnli":
            return replace(config, batch_size=32, epochs=1 if task == "mnli" else 2)
        case "cola":
            return replace(config, pooling="max", batch_size=32, lr=7e-5, warmup=0.05, epochs=8)
        case "wnli":  # nothing to learn from so few rows: train little
            return replace(config, lr=2e-5, epochs=2)
        case _:
            return config


def minilm_lora(task: str) -> TrainConfig:
    """minilm's with LoRA of rank 8 at ten times the rate, and twice the epochs of a small task."""
    config = minilm(task)
    epochs = config.epochs * (1 if task in ("sst2", "qqp", "mnli") else 2)
    extensions = (LoRA(rank=8, alpha=16.0),)
    return replace(config, lr=10 * config.lr, epochs=epochs, extensions=extensions)


def minilm_bitfit(task: str) -> TrainConfig:
    """minilm_lora's with BitFit in the place of LoRA."""
    return replace(minilm_lora(task), extensions=(BitFit(),))


RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe
    for recipe in (
        bert,
        convbert,
        modernbert,
        modernbert_short,
        mosaicbert,
        lora,
        bitfit,
        minilm,
        minilm_lora,
        minilm_bitfit,
    )
}

ADAPTERS: dict[Method, tuple[Extension, ...]] = {
    "full": (),
    "lora": (LoRA(rank=8, alpha=16.0),),
    "bitfit": (BitFit(),),
}


def recipe_config(name: str | None, method: Method, backbone: str, task: str) -> TrainConfig:
    """A recipe's config for a task.

    Args:
        name: the recipe; None for the one that fits the method and the backbone.
        method: full, lora or bitfit; a named recipe that trains by another method gets this one's
            adapters in the place of its own, and keeps its rates.
        backbone: minilm, a folder, or a hub name.
        task: one of TASKS.
    """
    family = family_of(backbone)
    if name is None:
        own = f"minilm_{method}" if family == "minilm" else method
        name = family if method == "full" else own
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; known are {', '.join(RECIPES)}")
    config = replace(RECIPES[name](task), backbone=backbone)
    if family == "convbert" and config.head == "shared" and config.pooling == "pooler":
        config = replace(config, pooling="cls")  # as its own classifier, for it has no pooler
    if method_of(config) == method:
        return config
    others = tuple(e for e in config.extensions if not isinstance(e, LoRA | BitFit))
    return replace(config, extensions=(*others, *ADAPTERS[method]))


def family_of(backbone: str) -> str:
    """The recipe of full fine-tuning that fits a backbone, by what kind of encoder it is."""
    if backbone == "minilm":
        return backbone
    kind = backbone.lower().replace("-", "")  # a hub's YituTech/conv-bert-base says it
    folder = Path(backbone).expanduser()
    for path in (folder / "config.json", folder / "backbone" / "config.json"):
        if path.is_file():  # of a backbone, or of a run, which has its backbone's beside it
            kind = str(read_json(path, dict[str, Any]).get("model_type", kind))
    return next((family for family in ("convbert", "modernbert") if family in kind), "bert")


def method_of(config: TrainConfig) -> Method:
    """How a config trains the encoder."""
    if any(isinstance(extension, LoRA) for extension in config.extensions):
        return "lora"
    return "bitfit" if any(isinstance(e, BitFit) for e in config.extensions) else "full"
