"""A run's best model as a folder for another library: which one, and for which of its tasks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

from minbert.adapters import merge_and_remove
from minbert.backbones import write_tensors
from minbert.encoder import Encoder
from minbert.files import write_json
from minbert.loading import save_config, save_pretrained
from minbert.tokenization import Tokenizer
from multitask.config import ContrastConfig
from multitask.export.model_card import write_card, write_stage_card
from multitask.export.onnx_graph import write_graph
from multitask.linear_head import LinearHeads, classifier_of
from multitask.predictor import Predictor
from multitask.runs.origin import trained_backbone
from multitask.runs.run import Run

Format = Literal["transformers", "sentence-transformers", "onnx"]


def export_run(
    run: str | Path, folder: str | Path, *, task: str | None = None, format: Format = "transformers"
) -> Path:
    """Write a run's best model, with adapters merged, its tokenizer and a model card.

    Args:
        run: the run folder.
        folder: to write; it must not hold a model yet.
        task: whose head comes along; without one transformers' folder has the encoder alone, and
            the other formats take the run's only task.
        format: transformers' AutoModelForSequenceClassification (or AutoModel) and pipeline;
            sentence-transformers' SentenceTransformer, for runs that compare embeddings and for
            contrastive stages; or a graph for onnxruntime.

    Raises:
        ValueError: the library has no such model, or there is something in the folder.
    """
    folder = Path(folder).expanduser()
    check_empty(folder)
    stage = Run.open(run)
    if isinstance(stage.config(), ContrastConfig):
        return _export_stage(stage, folder, task, format)
    predictor = Predictor(run, device="cpu")
    name = _task_of(predictor, task, format)
    check(predictor, name, format)
    for extension in predictor.config.extensions:
        extension.export(predictor.model)
    merge_and_remove(predictor.model.encoder)
    if name is None:
        save_pretrained(folder, predictor.model.encoder, predictor.tokenizer)
    elif format == "transformers":
        _write_classifier(folder, predictor, name)
    elif format == "onnx":
        _write_onnx(folder, predictor, name)
    else:
        tokenizer, config = _limited(predictor), predictor.config
        normalised = config.pair_kind(name) == "cosine"
        _write_bi_encoder(folder, predictor.model.encoder, tokenizer, config.pooling, normalised)
    if predictor.run.record_path.exists():  # of a run that is finished
        write_card(folder, predictor, name, format)
    return folder


def _export_stage(run: Run, folder: Path, task: str | None, format: Format) -> Path:
    """Write the encoder of a contrastive stage, for sentence-transformers with its pooling."""
    config = run.config()
    assert isinstance(config, ContrastConfig)
    if task is not None or format == "onnx":
        raise ValueError(
            f"{run.folder} is a contrastive run, which has embeddings and no head of a task; leave "
            "out --task, and take --format sentence-transformers or transformers"
        )
    backbone = trained_backbone(run)
    if format == "transformers":
        save_pretrained(folder, backbone.encoder, backbone.tokenizer)
    else:
        check_pooling(config.pooling, backbone.encoder)
        longest = config.max_length or backbone.encoder.config.max_positions
        tokenizer = limited(backbone.tokenizer, longest)
        _write_bi_encoder(folder, backbone.encoder, tokenizer, config.pooling, normalised=True)
    if run.record_path.exists():  # of a run that is finished
        write_stage_card(folder, run, format)
    return folder


def check_empty(folder: Path) -> None:
    """Raise ValueError if a folder holds a model, which nothing is to replace."""
    if any((folder / f"{kind}config.json").exists() for kind in ("", "adapter_")):
        raise ValueError(f"{folder} holds a model or a run already; choose another folder")


def _task_of(predictor: Predictor, task: str | None, format: Format) -> str | None:
    tasks = predictor.model.tasks
    if task is None and format != "transformers":
        fitting = [n for n in tasks if format == "onnx" or tasks[n].is_pair] or list(tasks)
        if len(fitting) > 1:
            raise ValueError(f"name a task with --task: {', '.join(fitting)}")
        return fitting[0]
    if task is not None and task not in tasks:
        raise ValueError(
            f"{predictor.run.folder} was not trained on task {task!r}; it knows {', '.join(tasks)}"
        )
    return task


def check(predictor: Predictor, task: str | None, format: Format) -> None:
    """Raise ValueError, with what to do, if a format has no such model."""
    if task is None:
        return
    config, encoder = predictor.config, predictor.model.encoder
    compares = config.embeds_pairs(task)
    if format == "sentence-transformers":
        if not compares:
            raise ValueError(
                f"{task} has no embeddings that are compared; train a task of pairs with --pair "
                "cosine or concat, or leave out --format sentence-transformers"
            )
        check_pooling(config.pooling, encoder)
        if config.pooling == "attention" or config.layer_mix:
            raise ValueError(
                "sentence-transformers has no module for a pooling that is learnt; train with "
                "--pooling mean, cls or max and without --layer-mix"
            )
    elif compares:
        kind = config.pair_kind(task)
        raise ValueError(
            f"{task} compares two embeddings (--pair {kind}), and {format} has no such "
            "head; export it with --format sentence-transformers, or train with --pair cross"
        )
    elif format == "transformers" and not isinstance(predictor.model.heads, LinearHeads):
        raise ValueError(
            f"the head of {task} has a layer that tasks share, and no class of transformers has; "
            "train with --head linear, export the graph with --format onnx, or leave out --task "
            "for the encoder alone"
        )


def check_pooling(pooling: str, encoder: Encoder) -> None:
    """Raise ValueError where sentence-transformers has no such pooling."""
    if pooling == "pooler" and encoder.name != "bert":
        raise ValueError(
            f"sentence-transformers has no module for the pooler of {encoder.name}; train with "
            "--pooling mean, cls or max"
        )


def _write_classifier(folder: Path, predictor: Predictor, task: str) -> None:
    """What AutoModelForSequenceClassification and pipeline("text-classification") load."""
    model = predictor.model
    assert isinstance(model.heads, LinearHeads)
    classifier = classifier_of(model.tasks[task], model.heads.classifiers[task])
    save_pretrained(folder, model.encoder, _limited(predictor), classifier=classifier)


def _write_onnx(folder: Path, predictor: Predictor, task: str) -> None:
    """model.onnx with the tokenizer, and a config.json that names the labels."""
    model = predictor.model
    encoder, labels = model.encoder, classifier_of(model.tasks[task])
    write_graph(folder / "model.onnx", model, task)
    save_config(folder, type(encoder), encoder.config, _limited(predictor), classifier=labels)


def _write_bi_encoder(
    folder: Path, encoder: Encoder, tokenizer: Tokenizer, pooled: str, normalised: bool
) -> None:
    """What SentenceTransformer loads, and gives the vectors that the run compares.

    Module types have the names that every version from 2 on reads.
    """
    size = encoder.config.hidden_size
    save_pretrained(folder, encoder, tokenizer)
    mode = "cls" if pooled == "pooler" else pooled
    modes = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
    pooling = {f"pooling_mode_{name}": key == mode for key, name in modes.items()}
    write_json(
        folder / "1_Pooling/config.json",
        {"word_embedding_dimension": size, **pooling, "pooling_mode_mean_sqrt_len_tokens": False},
    )
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    if pooled == "pooler":
        _write_pooler(folder / "2_Dense", encoder)
        modules.append(("Dense", "2_Dense"))
    if normalised:
        path = f"{len(modules)}_Normalize"
        write_json(folder / path / "config.json", {})
        modules.append(("Normalize", path))
    described = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(modules)
    ]
    longest = tokenizer.settings["model_max_length"]
    limit = {"max_seq_length": longest, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", limit)
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
    write_json(folder / "modules.json", described)


def _write_pooler(folder: Path, encoder: Encoder) -> None:
    """BERT's pooler, tanh(W h + b), as a Dense module."""
    dense, size = encoder.get_submodule("pooler.dense"), encoder.config.hidden_size
    settings = {"in_features": size, "out_features": size, "bias": True}
    settings["activation_function"] = "torch.nn.modules.activation.Tanh"
    write_json(folder / "config.json", settings)
    tensors = {f"linear.{name}": p.detach().contiguous() for name, p in dense.named_parameters()}
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})


def _limited(predictor: Predictor) -> Tokenizer:
    """The run's tokenizer, which tells other libraries where rows are cut."""
    return limited(predictor.tokenizer, predictor.max_length)


def limited(tokenizer: Tokenizer, longest: int) -> Tokenizer:
    """A tokenizer that tells other libraries to cut rows to so many tokens."""
    tokenizer = copy.copy(tokenizer)
    tokenizer.settings = {**tokenizer.settings, "model_max_length": longest}
    return tokenizer
