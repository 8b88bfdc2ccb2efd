"""The parts of CS224N's and CMU's minBERT that students fill in, in the order of the handout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lab.exercises import BY_NAME, Exercise


@dataclass(frozen=True, kw_only=True)
class Part(Exercise):
    """One thing to fill in there. It has no points, for nothing of it is graded."""

    part: Literal["bert", "optim", "heads", "extensions"] = "bert"
    points: int = 0
    hints: tuple[str, str, str] = ("", "", "")
    like: tuple[str, ...] = ()
    """The exercises of the lab that it is made of; theirs are its hints."""

    @property
    def file(self) -> str:
        return self.places[0].path.as_posix()

    @property
    def hinted(self) -> str:
        """Where hints are."""
        numbers = [BY_NAME[name].number for name in self.like]
        return "; ".join(f"minbert lab hint {number}" for number in numbers)

    def __str__(self) -> str:
        return f"part {self.number}: {self.title}"


PARTS: tuple[Part, ...] = tuple(
    replace(part, number=number)
    for number, part in enumerate(
        (
            Part(
                name="attention",
                title="multi-head attention",
                targets=("bert:BertSelfAttention.attention",),
                like=("attention", "heads"),
            ),
            Part(
                name="add_norm",
                title="add & norm, with dropout in its place",
                targets=("bert:BertLayer.add_norm",),
                like=("add_norm",),
            ),
            Part(
                name="layer",
                title="the layer",
                targets=("bert:BertLayer.forward",),
                like=("feed_forward", "layer"),
            ),
            Part(
                name="embed",
                title="embeddings",
                targets=("bert:BertModel.embed",),
                like=("embeddings",),
            ),
            Part(
                name="model",
                title="the stack of layers and the pooler",
                targets=("bert:BertModel.encode", "bert:BertModel.forward"),
                like=("encoder", "pooler"),
            ),
            Part(
                name="adamw",
                title="AdamW: the step",
                targets=("optimizer:AdamW.step",),
                like=("moments", "bias_correction", "adam_update", "weight_decay", "adamw_step"),
            ),
            Part(
                name="classifier",
                title="the sentiment classifier",
                targets=("classifier:BertSentimentClassifier.forward",),
                like=("classifier", "freezing"),
            ),
            Part(
                name="multitask",
                title="heads of three tasks",
                targets=(
                    "multitask_classifier:MultitaskBERT.predict_sentiment",
                    "multitask_classifier:MultitaskBERT.predict_paraphrase",
                    "multitask_classifier:MultitaskBERT.predict_similarity",
                ),
                like=("classifier", "compare"),
            ),
        ),
        start=1,
    )
)

PART_BY_NAME: dict[str, Part] = {part.name: part for part in PARTS}


def numbered(number: int) -> Part:
    """The part of this number.

    Raises:
        ValueError: there is none.
    """
    if not 1 <= number <= len(PARTS):
        raise ValueError(f"there is no part {number} of a checkout; they are 1 to {len(PARTS)}")
    return PARTS[number - 1]
