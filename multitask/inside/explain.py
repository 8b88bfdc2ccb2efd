"""What a run makes of a text: attention, attributions, and the answer after each layer.

    explain("runs/sst", ["A joy from start to end."])[0].sequences[0].attentions    (L, N, S, S)

Attention says where a token looks, and not what an answer comes from: for that, look at the
attributions (Jain & Wallace, 2019, arXiv:1902.10186; Wiegreffe & Pinter, 2019, arXiv:1908.04626).

L layers, N heads, S tokens of a sequence, T of all sequences of a row, H hidden size, K outputs of
the task's head. Arrays are float32, numbered from 0: attentions[0] is of layer 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.batching import Batch
from data.tasks import Task
from minbert.checks import warn_of_cut
from minbert.encoder import EncoderOutput
from minbert.layouts import Packed, Padded
from minbert.tokenization import Tokenizer
from multitask.heads import answers
from multitask.inside.attribution import STEPS, attribute
from multitask.inside.edits import UNCHANGED, Edit, edited, without_parts
from multitask.model import MultitaskModel
from multitask.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class TokenSequence:
    """One sequence that went through the encoder: a text, or the two texts of a pair together."""

    tokens: tuple[str, ...]
    """The S tokens, [CLS] and [SEP] among them."""
    input_ids: np.ndarray
    """(S,)"""
    segments: np.ndarray
    """(S,) 0 for the first text, 1 for the second."""
    special: np.ndarray
    """(S,) bool: [CLS], [SEP] and their like, which stand for no part of the text."""
    attentions: np.ndarray
    """(L, N, S, S) probabilities: of layer l and head n, query i to key j; rows sum to 1."""
    hidden_states: np.ndarray
    """(L + 1, S, H): the embeddings and each layer's output."""
    rollout: np.ndarray
    """(L, S, S): how much of token j's embedding has come to token i after so many layers; see
    `attention_rollout`."""
    gradient_x_input: np.ndarray
    """(S,) in units of the output; zeros where no attributions were asked for."""
    integrated_gradients: np.ndarray
    """(S,) likewise. Over all sequences of a row they sum to output - baseline."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a run makes of one row."""

    task: str
    texts: tuple[str, ...]
    cut: bool
    """Whether it was longer than the limit in tokens and lost its end."""
    outputs: np.ndarray
    """(K,) the head's: logits, or the number of a regression."""
    probabilities: np.ndarray | None
    """(classes,), None for a regression."""
    answer: float | list[int]
    """The class, or the number; of several labels the numbers of those that hold."""
    layer_outputs: np.ndarray
    """(L + 1, K): the head's outputs if the encoder ended after 0, 1, ... layers (the logit lens,
    nostalgebraist, 2020); the last are `outputs`."""
    layer_probabilities: np.ndarray | None
    """(L + 1, classes)"""
    target: int
    """Which of the K outputs the attributions are of."""
    output: float
    """That output."""
    baseline: float
    """The same output where each token of the text is [MASK]."""
    completeness_error: float
    """|Σ integrated gradients - (output - baseline)|, by which the sum over steps is off."""
    sequences: tuple[TokenSequence, ...]
    """One; of a pair whose texts are encoded apart (--pair concat, cosine) two."""


def explain(
    run: str | Path | Predictor,
    texts: Sequence[str | tuple[str, ...]],
    *,
    task: str | None = None,
    target: int | None = None,
    steps: int = STEPS,
    edit: Edit = UNCHANGED,
) -> list[Explanation]:
    """Say what a run makes of texts, or of pairs of texts.

    Args:
        run: its folder, or a predictor that has it loaded.
        texts: as `Predictor.predict` takes them.
        task: whose head answers; may be left out where the run has one.
        target: the output that attributions are of; by default that of the answer.
        steps: of integrated gradients; 0 leaves out all attributions, which take most of the time.
        edit: what to change of every row, and of the model, first.

    Raises:
        ValueError: the run does not know the task, a row is not what the task takes, or the target,
            or what is to be changed, is not there.
    """
    predictor = run if isinstance(run, Predictor) else Predictor(run)
    names = list(predictor.model.tasks)
    if task is None and len(names) > 1:
        raise ValueError(f"the run has several tasks; name one: {', '.join(names)}")
    name = task or names[0]
    examples = predictor.examples(name, texts)
    if not examples:
        return []
    rows = predictor.encoded(examples, name)
    warn_of_cut(rows.cut, len(examples), predictor.max_length, "rows")
    return [
        explain_row(
            predictor.model,
            predictor.tokenizer,
            predictor.task(name),
            in_packed(rows.batch([number])),
            texts=example.texts,
            cut=number in rows.cut,
            target=target,
            steps=steps,
            edit=edit,
        )
        for number, example in enumerate(examples)
    ]


def explain_row(
    model: MultitaskModel,
    tokenizer: Tokenizer,
    task: Task,
    batch: Batch,
    *,
    texts: tuple[str, ...],
    cut: bool = False,
    target: int | None = None,
    steps: int = STEPS,
    edit: Edit = UNCHANGED,
) -> Explanation:
    """`explain` for one row, a packed batch."""
    if model.training:
        model.eval()
    batch = edited(batch, edit, tokenizer).to(model.device)
    assert batch.input_ids is not None and batch.token_type_ids is not None
    assert isinstance(batch.layout, Packed)
    with without_parts(model.encoder, edit), model.encoder.choice.of(task.name):
        with torch.inference_mode():
            output = model.encoder(
                batch.input_ids,
                token_type_ids=batch.token_type_ids,
                layout=batch.layout,
                output_hidden_states=True,
                output_attentions=True,
            )
            lens = torch.cat(
                [model.heads(each, task.name) for each in by_layer(model, output, task)]
            )
        chosen = _target(task, lens[-1:], target)
        if steps:
            found = attribute(model, batch, task.name, chosen, tokenizer, steps=steps)
        else:
            found = None
    value, chances = answers(task, lens)
    last = value[-1]
    assert output.hidden_states is not None and output.attentions is not None
    lengths = batch.layout.lengths.tolist()
    cut_up = [
        x.split(lengths)
        for x in (
            batch.input_ids,
            batch.token_type_ids,
            torch.stack(output.hidden_states, dim=1),  # (T, L + 1, H)
            torch.zeros(sum(lengths)) if found is None else found.gradient_x_input,
            torch.zeros(sum(lengths)) if found is None else found.integrated_gradients,
        )
    ]
    sequences = []
    for number, (ids, segments, states, product, integrated) in enumerate(zip(*cut_up)):
        maps = torch.stack([x[number, :, : len(ids), : len(ids)] for x in output.attentions])
        attentions = _array(maps)  # (L, N, S, S)
        sequences.append(
            TokenSequence(
                tokens=tuple(tokenizer.tokens(ids.tolist())),
                input_ids=ids.cpu().numpy(),
                segments=segments.cpu().numpy(),
                special=np.isin(ids.cpu().numpy(), special_ids(tokenizer)),
                attentions=attentions,
                hidden_states=_array(states.transpose(0, 1)),  # (L + 1, S, H)
                rollout=attention_rollout(attentions),
                gradient_x_input=_array(product),
                integrated_gradients=_array(integrated),
            )
        )
    return Explanation(
        task=task.name,
        texts=texts,
        cut=cut,
        outputs=_array(lens[-1]),
        probabilities=None if chances is None else _array(chances[-1]),
        answer=last.nonzero().flatten().tolist() if last.dim() else float(last),
        layer_outputs=_array(lens),
        layer_probabilities=None if chances is None else _array(chances),
        target=chosen,
        output=float(lens[-1, chosen]),
        baseline=0.0 if found is None else found.baseline,
        completeness_error=0.0 if found is None else found.error,
        sequences=tuple(sequences),
    )


def in_packed(batch: Batch) -> Batch:
    """A batch of one row as a packed one, in which there is no padding to be seen."""
    if isinstance(batch.layout, Packed):
        return batch
    assert batch.input_ids is not None and batch.token_type_ids is not None
    assert isinstance(batch.layout, Padded)
    mask = batch.layout.mask
    return replace(
        batch,
        input_ids=batch.input_ids[mask],
        token_type_ids=batch.token_type_ids[mask],
        layout=Packed(mask.sum(dim=1).tolist()),
    )


def by_layer(model: MultitaskModel, output: EncoderOutput, task: Task) -> list[Tensor]:
    """The features (1, F) that a task's head would get after 0, 1, ... layers.

    What the encoder has behind its last layer (ModernBERT's final norm, the pooler) stands behind
    each of them. Where a task's head reads a mix of layers, that is in the last one's place.
    """
    assert output.hidden_states is not None
    final = dict(model.encoder.depths()).get("final norm")
    *earlier, last = output.hidden_states
    found = []
    for state in [*(final(x) if final else x for x in earlier), last]:
        pooler = model.encoder.pool(state, output.layout)
        after = replace(output, last_hidden_state=state, pooler_output=pooler)
        found.append(model.pooled(model.mixed(output) if state is last else after, task.name))
    return found


def attention_rollout(attentions: np.ndarray) -> np.ndarray:
    """R_l = (½ I + ½ mean over heads of A_l) R_{l-1}, R_0 = I: Abnar & Zuidema (2020),
    arXiv:2005.00928.

    Half of what a token becomes is taken to be itself, by the residual connection, and half what it
    attends to.

    Args:
        attentions: (L, N, S, S).

    Returns:
        (L, S, S), whose rows sum to 1.
    """
    rollout = [np.eye(attentions.shape[-1], dtype=np.float32)]
    for mean in attentions.mean(axis=1):
        rollout.append((0.5 * rollout[0] + 0.5 * mean) @ rollout[-1])
    return np.stack(rollout[1:])


def special_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of tokens that stand for no part of a text."""
    return [tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id]


def _target(task: Task, outputs: Tensor, target: int | None) -> int:
    """Which output to look at: the one that was asked for, or that of the answer."""
    if target is None:
        return int(outputs.argmax()) if outputs.size(-1) > 1 else 0
    if not 0 <= target < outputs.size(-1):
        raise ValueError(
            f"{task.name} has outputs 0 to {outputs.size(-1) - 1}, and target is {target}; choose "
            "one of them"
        )
    return target


def _array(x: Tensor) -> np.ndarray:
    return x.detach().float().cpu().numpy()
