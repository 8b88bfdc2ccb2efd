"""Part 2: the optimizer."""

from __future__ import annotations

from lab.exercises.record import Exercise

OPTIM = (
    Exercise(
        name="moments",
        title="AdamW: running moments",
        part="optim",
        targets=("optim.adamw:update_moments",),
        points=3,
        level=1,
        minutes=20,
        hints=(
            "Two running means: of the gradient, and of its square.",
            "Each keeps the share b of the old and takes 1 - b of the new; b1 for m, b2 for v.",
            "Both change in place (`mul_`, `add_`), for the optimizer keeps them between steps.",
        ),
    ),
    Exercise(
        name="bias_correction",
        title="AdamW: bias correction",
        part="optim",
        targets=("optim.adamw:bias_corrections",),
        points=2,
        level=1,
        minutes=10,
        hints=(
            "The moments start at zero, so after t steps they hold a share 1 - b^t.",
            "Steps count from 1: at the first step c1 is 1 - b1.",
            "Without correction both are 1.0.",
        ),
    ),
    Exercise(
        name="adam_update",
        title="AdamW: the update",
        part="optim",
        targets=("optim.adamw:efficient_update", "optim.adamw:textbook_update"),
        points=4,
        hints=(
            "The two forms differ in one thing: whether eps is corrected too.",
            "Root first, eps after; c2 goes under the root with v in the textbook form.",
            "Change `param` in place. The efficient form divides m by (sqrt(v) + eps) and puts "
            "both corrections in the rate: lr * sqrt(c2) / c1.",
        ),
    ),
    Exercise(
        name="weight_decay",
        title="AdamW: decoupled weight decay",
        part="optim",
        targets=("optim.adamw:decay_weights",),
        points=2,
        level=1,
        minutes=10,
        hints=(
            "Decoupled means that neither the gradient nor the moments see it.",
            "The parameter shrinks by a share of itself.",
            "That share is lr * weight_decay, with the rate as it was given; in place.",
        ),
    ),
    Exercise(
        name="adamw_step",
        title="AdamW: the step",
        part="optim",
        targets=("optim.adamw:AdamW.step",),
        points=5,
        level=3,
        minutes=60,
        uses=("moments", "bias_correction", "adam_update", "weight_decay"),
        hints=(
            "Groups outside, parameters inside; a parameter without a gradient is left alone.",
            "`self.next_state(param)` gives the moments, with the step counted already.",
            'For each parameter: decay if group["decay"] is "before"; moments; corrections; the '
            'update that group["efficient"] asks for; decay if "after". With a closure, call it '
            "under `torch.enable_grad()` first, and return its loss.",
        ),
    ),
    Exercise(
        name="no_decay",
        title="which parameters decay",
        part="optim",
        targets=("optim.groups:is_bias_or_norm",),
        points=2,
        level=1,
        minutes=15,
        hints=(
            "Matrices decay. What is left?",
            "Biases and LayerNorm's weights are vectors.",
            "A bias may be kept as a column; then only the last word of its name tells.",
        ),
    ),
    Exercise(
        name="warmup",
        title="warm-up and linear decay of the rate",
        part="optim",
        targets=("optim.schedules:linear",),
        points=3,
        level=1,
        minutes=20,
        hints=(
            "Two straight lines: up from 0 during the warm-up, then down to 0 at the end.",
            "Up: step / warmup. Down: what is left of the steps after the warm-up.",
            "The factor is (total - step) / (total - warmup) after the warm-up, and never below 0; "
            "mind warmup = total. `check_schedule` refuses bad numbers.",
        ),
    ),
)
