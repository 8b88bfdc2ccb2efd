"""What is measured: each workload with its candidates, ours and the alternatives.

A candidate is a function that gets ready (loads, tokenizes) and returns the work to be timed, a
function without arguments. Each runs in a process of its own: see benchmarks/measure.py.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

Work = Callable[[], None]
ROWS = 640
"""Rows of a workload at inference: 20 batches of 32."""
STEPS = 20
"""Optimizer steps of a workload in training."""


@dataclass(frozen=True)
class Data:
    """The rows of a workload, the same for every candidate."""

    texts: list[tuple[str, ...]]
    labels: list[float]
    folder: Path
    """The backbone."""


@dataclass(frozen=True)
class Workload:
    """One row of the table. The first candidate is ours, the second what it is compared with."""

    name: str
    task: str
    candidates: dict[str, Callable[[Data], Work]]
    size: str = "minilm"
    """minilm, or base: bert-base's sizes with random weights."""
    training: bool = False
    aim: float | None = None
    """Ratio to the second candidate that is aimed at."""
    rows: int = ROWS


def backbone_folder(size: str) -> Path:
    """MiniLM's folder, or a folder with a random BERT of bert-base's sizes."""
    from minbert import Bert, BertConfig, load_backbone, save_pretrained

    minilm = load_backbone("minilm")
    if size == "minilm":
        return minilm.folder
    torch.manual_seed(0)
    folder = Path(tempfile.mkdtemp(prefix="bert-base-"))
    return save_pretrained(folder, Bert(BertConfig()), minilm.tokenizer)


def load(workload: Workload, data_dir: Path, folder: Path) -> Data:
    """The first rows of a task's training split, in the file's order."""
    from data.readers import read_split
    from data.tasks import get_task

    rows = read_split(get_task(workload.task), "train", data_dir, on_bad_row="skip").examples
    rows = rows[: workload.rows]
    return Data([e.texts for e in rows], [float(e.label) for e in rows], folder)


def chunks(items: Sequence, size: int = 32) -> list[Sequence]:
    return [items[i : i + size] for i in range(0, len(items), size)]


# Inference: all rows through the encoder, tokenized beforehand


def ours_encode(data: Data, *, ordered: bool = False) -> Work:
    from data.batching import EncodedRows
    from data.readers import Example
    from minbert import load_backbone
    from minbert.embedding import batches_by_length

    backbone = load_backbone(data.folder)
    examples = [Example(str(n), texts, None) for n, texts in enumerate(data.texts)]
    source = EncodedRows(examples, backbone.tokenizer, pair="cross", max_length=512)
    rows = range(len(examples))
    batches = list(batches_by_length(source.lengths, tokens=1024)) if ordered else chunks(rows)

    @torch.inference_mode()
    def work() -> None:
        for part in batches:
            batch = source.batch(part)
            backbone.encoder(
                batch.input_ids, token_type_ids=batch.token_type_ids, layout=batch.layout
            )

    return work


def _transformers_batches(data: Data, *, ordered: bool) -> list[dict[str, torch.Tensor]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data.folder)
    texts = sorted(data.texts, key=lambda t: len(" ".join(t))) if ordered else data.texts
    return [
        dict(tokenizer(*map(list, zip(*part)), padding=True, return_tensors="pt"))
        for part in chunks(texts)
    ]


def transformers_encode(data: Data, *, attention: str = "sdpa", ordered: bool = False) -> Work:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(data.folder, attn_implementation=attention).eval()
    batches = _transformers_batches(data, ordered=ordered)

    @torch.inference_mode()
    def work() -> None:
        for batch in batches:
            model(**batch)

    return work


def torch_encode(data: Data) -> Work:
    """torch.nn.TransformerEncoder of the same sizes; its fast path skips padding."""
    from minbert import load_backbone

    config = load_backbone(data.folder).encoder.config
    layer = torch.nn.TransformerEncoderLayer(
        config.hidden_size, config.num_heads, config.intermediate_size, activation="gelu",
        batch_first=True,
    )  # fmt: skip
    model = torch.nn.TransformerEncoder(layer, config.num_layers).eval()
    embedding = torch.nn.Embedding(config.vocab_size, config.hidden_size)
    batches = _transformers_batches(data, ordered=False)

    @torch.inference_mode()
    def work() -> None:
        for batch in batches:
            padding = batch["attention_mask"] == 0
            model(embedding(batch["input_ids"]), src_key_padding_mask=padding)

    return work


def onnx_encode(data: Data) -> Work:
    """onnxruntime on the graph of transformers' model, rows sorted by length."""
    import onnxruntime
    from transformers import AutoModel

    class Named(torch.nn.Module):
        """The exporter passes its inputs by place, and the model wants them by name."""

        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(data.folder, attn_implementation="eager")

        def forward(
            self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor
        ) -> torch.Tensor:
            values = dict(zip(names, (ids, mask, types), strict=True))
            return self.model(**values).last_hidden_state

    batches = _transformers_batches(data, ordered=True)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    path = Path(tempfile.mkdtemp(prefix="onnx-")) / "model.onnx"
    torch.onnx.export(
        Named().eval(),
        tuple(batches[0][name] for name in names),
        path,
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_shapes=({0: "batch", 1: "length"},) * 3,
        dynamo=True,
        verbose=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    arrays = [{name: batch[name].numpy() for name in names} for batch in batches]

    def work() -> None:
        for batch in arrays:
            session.run(None, batch)

    return work


# Text to embeddings, tokenizing included


def ours_embed(data: Data) -> Work:
    from minbert import embed, load_backbone

    backbone = load_backbone(data.folder)
    texts = [texts[0] for texts in data.texts]
    return partial(_run, embed, backbone, texts)


def _run(act: Callable, *args: object) -> None:
    act(*args)


def sentence_transformers_embed(data: Data) -> Work:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(data.folder), device="cpu")
    texts = [texts[0] for texts in data.texts]
    return partial(_run, model.encode, texts)


# Training: full fine-tuning, some steps from the pretrained weights


def _step_batches(data: Data, size: int, ordered: bool) -> list[list[int]]:
    """Row numbers of each step: random rows, or rows of similar length in a random order."""
    draw = random.Random(0)
    rows = list(range(len(data.texts)))
    draw.shuffle(rows)
    if ordered:
        rows.sort(key=lambda row: len(" ".join(data.texts[row])))
    batches = [list(part) for part in chunks(rows, size)]
    draw.shuffle(batches)
    return batches[:STEPS]


def ours_train(data: Data, *, size: int = 32, ordered: bool = False) -> Work:
    from data.batching import EncodedRows
    from data.readers import Example
    from data.tasks import get_task
    from minbert import load_backbone
    from minbert.quick import keep_freed_memory
    from multitask.heads import loss_sum
    from multitask.model import MultitaskModel
    from optim import AdamW, parameter_groups

    keep_freed_memory()
    backbone = load_backbone(data.folder, fresh=("pooler",))
    task = get_task("sst")
    model = MultitaskModel(backbone.encoder, [task]).train()
    groups = parameter_groups(model.named_parameters(), lr=5e-5, weight_decay=0.01)
    optimizer = AdamW(groups, lr=5e-5, fused=True)
    examples = [
        Example(str(n), texts, label)
        for n, (texts, label) in enumerate(zip(data.texts, data.labels, strict=True))
    ]
    source = EncodedRows(examples, backbone.tokenizer, pair="cross", max_length=512)
    batches = _step_batches(data, size, ordered)

    def work() -> None:
        for rows in batches:
            batch = source.batch(rows)
            optimizer.zero_grad(set_to_none=True)
            (loss_sum(task, model(batch, "sst"), batch.labels) / len(rows)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return work


def transformers_train(
    data: Data, *, size: int = 32, ordered: bool = False, fused: bool = False
) -> Work:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(data.folder, num_labels=5).train()
    tokenizer = AutoTokenizer.from_pretrained(data.folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01, fused=fused)
    batches = []
    for rows in _step_batches(data, size, ordered):
        texts = map(list, zip(*(data.texts[row] for row in rows)))
        encoded = dict(tokenizer(*texts, padding=True, return_tensors="pt"))
        labels = torch.tensor([int(data.labels[row]) for row in rows])
        batches.append({**encoded, "labels": labels})

    def work() -> None:
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return work


def _inference(task: str, aim: float | None, **changes: object) -> Workload:
    return Workload(
        f"inference, {task.upper()}",
        task,
        {
            "minbert": ours_encode,
            "transformers": transformers_encode,
            "minbert, sorted": partial(ours_encode, ordered=True),
            "transformers, sorted": partial(transformers_encode, ordered=True),
            "transformers, eager": partial(transformers_encode, attention="eager"),
            "onnxruntime, sorted": onnx_encode,
            "torch.nn.TransformerEncoder": torch_encode,
        },
        aim=aim,
        **changes,
    )


def _training(size: int, aim: float | None) -> Workload:
    return Workload(
        f"training, SST, batches of {size}",
        "sst",
        {
            "minbert": partial(ours_train, size=size),
            "transformers": partial(transformers_train, size=size),
            "minbert, bucketed": partial(ours_train, size=size, ordered=True),
            "transformers, bucketed, fused": partial(
                transformers_train, size=size, ordered=True, fused=True
            ),
        },
        training=True,
        aim=aim,
        rows=STEPS * size,
    )


WORKLOADS = [
    _inference("sst", 5.0),
    _inference("sts", 6.0),
    _inference("para", 5.0),
    Workload(
        "text to embeddings, SST",
        "sst",
        {"minbert": ours_embed, "sentence-transformers": sentence_transformers_embed},
        aim=3.0,
    ),
    _training(16, 4.5),
    _training(32, 4.5),
    Workload(
        "inference, SST, bert-base",
        "sst",
        {
            "minbert": ours_encode,
            "transformers": transformers_encode,
            "minbert, sorted": partial(ours_encode, ordered=True),
            "transformers, sorted": partial(transformers_encode, ordered=True),
        },
        size="base",
        aim=4.5,
        rows=160,
    ),
]
