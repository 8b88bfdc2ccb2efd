"""Part 5: around the model, from rows to batches, gradients and scores."""

from __future__ import annotations

from lab.exercises.record import Exercise

LOOP = (
    Exercise(
        name="batch",
        title="a batch: padding, and rows of like length",
        part="loop",
        targets=(
            "data.batching:layout_of",
            "data.batching:lay_out",
            "data.draws:BatchStream._order",
        ),
        points=4,
        minutes=45,
        hints=(
            "Rows are not equally long, and a tensor has no ragged edge: what fills it, who must "
            "know of it, and which rows waste least of it together?",
            "The mask compares places 0 to S - 1 with each length. Padding stands behind. Sorting "
            "all rows would make the same batches in every pass, so sort within pools.",
            "`_order`: a permutation by `np.random.default_rng((*self._seed, number))`; pools of "
            "50 · batch size rows of it, each sorted by `self._lengths` and cut by `self._cut`; "
            "then shuffle the list of batches.",
        ),
    ),
    Exercise(
        name="clipping",
        title="gradient clipping",
        part="loop",
        targets=("optim.clipping:clip_gradients",),
        points=3,
        level=1,
        minutes=20,
        hints=(
            "A step may be too long; its direction is still right.",
            "There is one norm, of all numbers of all gradients together, and one factor for all.",
            "The root of the sum of all squares; the factor is limit / (norm + 1e-6), and 1 where "
            "that is more. Leave out what has no gradient, and return the norm from before.",
        ),
    ),
    Exercise(
        name="accumulation",
        title="a step of several batches",
        part="loop",
        targets=(
            "multitask.loop.engine:Engine._weight",
            "multitask.loop.engine:Engine._backward_each",
        ),
        points=4,
        minutes=45,
        hints=(
            "Gradients add up by themselves. What must each batch's summed loss be divided by?",
            "By the rows of all batches, so count them first. The mean of the batches' means is "
            "another number where the last batch is smaller.",
            "For each share, inside `self._pass(reduce and it is the last)`: under `autocast(...)` "
            "`self.parallel(share.batch, task, weight, share.factor)` gives what to minimise and "
            "the plain loss. `self.scaler.scale(loss * distributed.count()).backward()`; add the "
            "plain losses up.",
        ),
    ),
    Exercise(
        name="metrics",
        title="scores of many models at once",
        part="loop",
        targets=(
            "multitask.experiments.significance:_macro_f1",
            "multitask.experiments.significance:_matthews",
            "multitask.experiments.significance:_pearson",
        ),
        points=4,
        minutes=45,
        hints=(
            "The formula of one list first; then let every sum run over the last dimension alone.",
            "Where a formula says 0 / 0 the score is 0: `_ratio` does that. `_classes` gives the "
            "classes, `_f1_parts` what stands above and below of one of them.",
            "Macro-F1 divides by the classes that occur in that list. Matthews: counts of each "
            "class among labels and answers, stacked. Pearson: take the means away first, and "
            "look with `np.ptp` for what is constant.",
        ),
    ),
)
