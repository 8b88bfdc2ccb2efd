"""Candidates of inference: each gets ready, and returns the work to be timed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.rows import Data, Work, chunks, their_tokenizer

# All rows through the encoder, tokenized beforehand


def ours_encode(data: Data, *, ordered: bool = False, precision: str = "fp32") -> Work:
    from data.batching import EncodedRows
    from data.readers import Example
    from minbert import load_backbone
    from minbert.inference import autocast, batches_by_length

    backbone = load_backbone(data.folder)
    examples = [Example(str(n), texts, None) for n, texts in enumerate(data.texts)]
    source = EncodedRows(examples, backbone.tokenizer, pair="cross", max_length=512)
    rows = range(len(examples))
    batches = list(batches_by_length(source.lengths, tokens=1024)) if ordered else chunks(rows)

    @torch.inference_mode()
    def work() -> None:
        for part in batches:
            batch = source.batch(part)
            with autocast(torch.device("cpu"), precision):
                backbone.encoder(
                    batch.input_ids, token_type_ids=batch.token_type_ids, layout=batch.layout
                )

    return work


def _transformers_batches(data: Data, *, ordered: bool) -> list[dict[str, torch.Tensor]]:
    tokenizer = their_tokenizer(data.folder)
    texts = sorted(data.texts, key=lambda t: len(" ".join(t))) if ordered else data.texts
    return [
        dict(tokenizer(*map(list, zip(*part)), padding=True, return_tensors="pt"))
        for part in chunks(texts)
    ]


def transformers_encode(
    data: Data,
    *,
    attention: str = "sdpa",
    ordered: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Work:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(data.folder, attn_implementation=attention).eval().to(dtype)
    batches = _transformers_batches(data, ordered=ordered)

    @torch.inference_mode()
    def work() -> None:
        for batch in batches:
            model(**batch)

    return work


def torch_encode(data: Data) -> Work:
    """torch.nn.TransformerEncoder of the same sizes; its fast path skips padding."""
    from minbert import BertConfig, load_backbone

    config = load_backbone(data.folder).encoder.config
    assert isinstance(config, BertConfig)
    layer = torch.nn.TransformerEncoderLayer(
        config.hidden_size,
        config.num_heads,
        config.intermediate_size,
        activation="gelu",
        batch_first=True,
    )
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
