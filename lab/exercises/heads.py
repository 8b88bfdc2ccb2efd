"""Part 3: heads and tasks."""

from __future__ import annotations

from lab.exercises.record import Exercise

HEADS = (
    Exercise(
        name="pooling",
        title="pooling over real tokens",
        part="heads",
        targets=("minbert.layouts:Padded.mean", "minbert.layouts:Padded.max"),
        points=4,
        hints=(
            "Padding has vectors too, and they mean nothing.",
            "For a mean: zero what is padding, sum, divide by how many tokens are real.",
            "For a maximum zeros are no help, since real features may be negative: put -inf there.",
        ),
    ),
    Exercise(
        name="pair",
        title="encoding a pair",
        part="heads",
        targets=("minbert.tokenization:Tokenizer.encode",),
        points=4,
        minutes=40,
        hints=(
            "The library behind `self.fast` knows how a pair is laid out, if you give it pairs.",
            "`self.fast.encode_batch_fast(rows)`, where a row is a text or a tuple of two; each "
            "encoding has `ids` and `type_ids`.",
            'To cut: `self.fast.enable_truncation(max_length, strategy="longest_first")`, encode, '
            "and `no_truncation()` again. Count the rows that were longer before the cut.",
        ),
    ),
    Exercise(
        name="classifier",
        title="the heads on shared features",
        part="heads",
        targets=("multitask.heads:Heads.forward",),
        points=4,
        level=1,
        minutes=25,
        hints=(
            "One shared layer, one output layer for each task.",
            "Dropout comes before each of the two linear maps, and GELU after the first.",
            'Tasks in `self.paired` take `self.shared["pair"]`, others "single"; a CosineOutput '
            "takes the features as they are. Outputs are raw: no softmax, no squashing.",
        ),
    ),
    Exercise(
        name="compare",
        title="comparing two embeddings",
        part="heads",
        targets=("multitask.heads:compare_concat", "multitask.heads:compare_cosine"),
        points=3,
        level=1,
        minutes=20,
        hints=(
            "One is three vectors in a row; the other is one number.",
            "The third vector is the difference without its sign, feature by feature.",
            "The cosine runs over the last dimension and comes back as a column (B, 1).",
        ),
    ),
    Exercise(
        name="losses",
        title="losses of classification and regression",
        part="heads",
        targets=("multitask.heads:row_losses",),
        points=4,
        minutes=40,
        hints=(
            "Four kinds of task with labels; all losses take raw outputs.",
            "Cross-entropy for classes, binary cross-entropy with logits, squared error; where "
            "several labels may hold, binary cross-entropy of each, and their mean in a row.",
            'Each row has a loss of its own, reduction="none". For binary and regression, outputs '
            "(B, 1) and labels (B,) must get the same shape first.",
        ),
    ),
    Exercise(
        name="answers",
        title="from outputs to answers",
        part="heads",
        targets=("multitask.heads:answers",),
        points=3,
        minutes=25,
        hints=(
            "A class, or a number; and how sure the model is.",
            "Softmax for classes; for a binary task the probability of yes is a sigmoid, and for "
            "labels, of which several may hold, each has one and holds above a half.",
            "A binary task returns two probabilities a row, no first. A regression returns its "
            "number as it is, (B,), and None.",
        ),
    ),
    Exercise(
        name="freezing",
        title="the model of a config, and freezing",
        part="heads",
        targets=("multitask.model:MultitaskModel.from_config",),
        points=4,
        minutes=40,
        hints=(
            "Build first, then change: dropout, checkpointing, freezing, extensions.",
            "Freezing is `requires_grad_(False)` on the encoder and on nothing else.",
            "Heads start from `torch.manual_seed(config.seed)` inside `torch.random.fork_rng`, so "
            "that nobody else's random numbers move. `config.encoder_dropout` of None leaves the "
            "encoder's dropout alone, and 0.0 does not.",
        ),
    ),
    Exercise(
        name="sampling",
        title="drawing a task",
        part="heads",
        targets=("data.draws:uniform_task",),
        points=3,
        level=1,
        minutes=20,
        hints=(
            "The draw must be the same when a killed run comes to this step again.",
            "So make a generator from the seed and the step, and keep no state between calls.",
            "`np.random.default_rng((seed, 1, step)).integers(...)` gives each the same chance.",
        ),
    ),
)
