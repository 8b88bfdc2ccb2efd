"""What to read before each part, in order: papers, and files of the library; and what to ask them.

`minbert lab next` shows it where a part begins, and docs/assignment.md has the same as tables.
"""

from __future__ import annotations

from typing import NamedTuple

from lab.exercises.record import PARTS, Part


class Reading(NamedTuple):
    """One thing to read."""

    what: str
    """A file from the copy's root, or a paper; then a colon and where in it, if not all."""
    minutes: int
    """About how long."""
    question: str
    """To be answered while reading."""

    @property
    def path(self) -> str | None:
        """The file, where it is one."""
        first = self.what.partition(":")[0]
        return first if first.endswith((".py", ".md")) else None

    @property
    def marked(self) -> str:
        """What it is in Markdown, a file as code."""
        path = self.path
        return self.what.replace(path, f"`{path}`", 1) if path else self.what


READINGS: dict[Part, tuple[Reading, ...]] = {
    "bert": (
        Reading(
            "Vaswani et al. (2017), arXiv:1706.03762: sections 3.1 to 3.3", 40,
            "What would the softmax be like for large D if QKᵀ were not divided by √D?",
        ),
        Reading(
            "Devlin et al. (2019), arXiv:1810.04805: section 3, figure 2", 30,
            "Which three vectors make a token's embedding, and which of them tells order?",
        ),
        Reading(
            "minbert/encoders/bert.py: docstrings", 20,
            "How many LayerNorms and dropouts does a token pass on its way through one layer?",
        ),
        Reading(
            "minbert/layouts.py: to the end of Padded", 20,
            "What does attention ask a layout, and what does pooling?",
        ),
        Reading(
            "minbert/hub_keys.py: HubFormat", 10,
            "What would go wrong later if a key that nobody wants were skipped in silence?",
        ),
    ),
    "optim": (
        Reading(
            "Kingma & Ba (2015), arXiv:1412.6980: algorithm 1, and section 2", 30,
            "How large is the first step of a parameter whose gradient is tiny?",
        ),
        Reading(
            "Loshchilov & Hutter (2019), arXiv:1711.05101: algorithm 2", 20,
            "Under L2, which parameters shrink least, and why do all shrink alike here?",
        ),
        Reading(
            "optim/adamw.py: to the end of AdamW.step", 20,
            "Who else holds the tensors that a step changes, and what if it made new ones?",
        ),
        Reading(
            "multitask/loop/optimizer.py: make_groups", 10,
            "Into how many groups do the parameters of a model with one rate fall?",
        ),
    ),
    "heads": (
        Reading(
            "Devlin et al. (2019), arXiv:1810.04805: section 4.1, figure 4", 15,
            "Which parameters are new when a task is added?",
        ),
        Reading(
            "data/schema.py: Task", 15,
            "Which field of a task chooses its loss, and which gives the size of its head?",
        ),
        Reading(
            "minbert/tokenization.py: Tokenizer", 15,
            "Where do the ids of [CLS] and [SEP] come from, and who pads?",
        ),
        Reading(
            "multitask/model.py", 20,
            "Along which calls do token ids become the outputs of one task?",
        ),
        Reading(
            "data/draws.py", 10,
            "What has to be saved so that a resumed run draws what it would have drawn?",
        ),
    ),
    "extensions": (
        Reading(
            "multitask/extensions/base.py: Extension", 20,
            "Which hooks would a penalty on the distance to the first weights need?",
        ),
        Reading(
            "docs/extensions/adapters.md", 15,
            "Which of LoRA, DoRA, IA3 and BitFit cost nothing when the model is used, and why?",
        ),
        Reading(
            "minbert/adapters/layers.py: to the end of LoRA", 20,
            "Why is B zero at first and A not, and not both?",
        ),
        Reading(
            "docs/extensions/training.md", 15,
            "What does each of these change: the model, its gradient, or the rate?",
        ),
        Reading(
            "data/masking.py", 15,
            "Why do some of the chosen tokens stay as they are?",
        ),
    ),
    "loop": (
        Reading(
            "multitask/loop/trainer.py: Trainer.step", 15,
            "What comes between the gradient and the step, and in which order?",
        ),
        Reading(
            "multitask/loop/engine.py", 25,
            "Why does a loss go in with a weight that is not the number of its own rows?",
        ),
        Reading(
            "data/batching.py: to the end of EncodedRows", 15,
            "Rows of 1, 1 and 10 tokens: how much of the padded batch is padding?",
        ),
        Reading(
            "multitask/metrics.py", 10,
            "What does each score give a model that always answers the same?",
        ),
    ),
    "tokens-costs": (
        Reading(
            "Sennrich et al. (2016), arXiv:1508.07909: section 3.2", 20,
            "Can a word that was never seen come out unknown?",
        ),
        Reading(
            "minbert/subwords.py", 15,
            "Which of the two, WordPiece and BPE, needs to know the order of learning?",
        ),
        Reading(
            "Hu et al. (2021), arXiv:2106.09685: section 4.2, table 2", 20,
            "Which of the four numbers that Adam keeps of a weight does LoRA save?",
        ),
        Reading(
            "minbert/costs.py", 10,
            "Which of these grow with the length of the texts?",
        ),
    ),
}  # fmt: skip


def number_of(part: Part) -> int:
    """The part's number in the assignment."""
    return PARTS.index(part) + 1


def table(part: Part) -> str:
    """What to read before a part, as the assignment has it."""
    lines = ["| read | minutes | and answer |", "| --- | --- | --- |"]
    lines += [f"| {r.marked} | {r.minutes} | {r.question} |" for r in READINGS[part]]
    return "\n".join(lines)


def in_lines(part: Part) -> list[str]:
    """The same for a terminal."""
    minutes = sum(reading.minutes for reading in READINGS[part])
    lines = [f"Part {number_of(part)} begins. Read before it, about {minutes} minutes:"]
    for what, took, question in READINGS[part]:
        lines += [f"  {what} ({took} minutes)", f"      {question}"]
    return lines


if __name__ == "__main__":
    print("\n\n".join(table(part) for part in PARTS))
