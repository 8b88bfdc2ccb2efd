"""The exercises, in the order of learning: one record each.

A record names functions of the library; the code itself carries no marks. The check of an exercise
is the function of its name in lab/checks, its right answer and its mistakes are in lab/answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.source import Target

Part = Literal["bert", "optim", "heads", "extensions"]
PARTS: tuple[Part, ...] = ("bert", "optim", "heads", "extensions")


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One thing to fill in."""

    name: str
    """Name of its check, and of its page in docs/assignment.md."""
    title: str
    part: Part
    targets: tuple[str, ...]
    """The functions to fill in: module:function or module:Class.method."""
    points: int
    hints: tuple[str, str, str]
    """From a nudge to nearly the answer."""
    uses: tuple[str, ...] = ()
    """Earlier exercises whose functions these call: they are supplied when it is checked."""

    @property
    def number(self) -> int:
        """Its place in the list, from 1."""
        return EXERCISES.index(self) + 1

    @property
    def places(self) -> tuple[Target, ...]:
        return tuple(Target.parse(text) for text in self.targets)

    @property
    def heading(self) -> str:
        return f"Exercise {self.number}: {self.title}"

    def __str__(self) -> str:
        return f"exercise {self.number}: {self.title}"


EXERCISES: tuple[Exercise, ...] = (
    # Part 1: BERT
    Exercise(
        name="embeddings",
        title="embeddings",
        part="bert",
        targets=("minbert.encoders.bert:Embeddings.forward",),
        points=3,
        hints=(
            "A token's vector says three things: which word, which place, which segment.",
            "Look all three up, add them, and normalise the sum once.",
            "Dropout comes last, on the normalised sum; `self.norm` and `self.dropout` are there.",
        ),
    ),
    Exercise(
        name="attention_mask",
        title="attention mask",
        part="bert",
        targets=("minbert.attention:key_mask",),
        points=2,
        hints=(
            "Scores are (B, N, S, S): which of the four dimensions does the mask speak about?",
            "It says which keys are real, and keys are the last dimension of the scores.",
            "Give it two dimensions of size 1, for heads and for queries, between B and S.",
        ),
    ),
    Exercise(
        name="attention",
        title="scaled dot-product attention",
        part="bert",
        targets=("minbert.attention:scaled_dot_product_attention",),
        points=6,
        hints=(
            "Follow equation 1 of the paper from the inside out: product, scale, mask, softmax.",
            "A masked score must be -inf before the softmax, for then its probability is 0.",
            "Softmax runs over the keys, the last dimension. Dropout acts on the probabilities "
            "that meet the values; those that you return have seen no dropout.",
        ),
    ),
    Exercise(
        name="heads",
        title="splitting and merging heads",
        part="bert",
        targets=("minbert.attention:split_heads", "minbert.attention:merge_heads"),
        points=4,
        hints=(
            "The H features of a token are N slices of D; head n owns slice n.",
            "`view` cuts a dimension in two, `transpose` changes places; do them in this order.",
            "To merge, undo the transpose first. Its result is not contiguous: `reshape`, not "
            "`view`, puts the slices together again.",
        ),
    ),
    Exercise(
        name="self_attention",
        title="multi-head self-attention",
        part="bert",
        targets=("minbert.encoders.bert:SelfAttention.forward",),
        points=6,
        uses=("attention_mask", "attention", "heads"),
        hints=(
            "Three linear maps of the same x, attention in each head, one more linear map.",
            "`layout.per_sequence(attend, q, k, v)` calls your `attend(q, k, v, mask)` with "
            "(B, S, H) and a mask (B, S), and brings what it returns back into the layout.",
            "Inside `attend`: split the heads of all three, attend with `key_mask(mask)` and "
            "`self.dropout`, merge the heads. Add the probabilities to `attentions` if it is a "
            "list. After `per_sequence` comes `self.output`.",
        ),
    ),
    Exercise(
        name="add_norm",
        title="add & norm, with dropout in its place",
        part="bert",
        targets=("minbert.encoders.bert:AddNorm.forward",),
        points=3,
        hints=(
            "The residual is a road that nothing blocks: what may dropout touch?",
            "BERT is post-norm: LayerNorm comes after the sum.",
            "Dropout on `output` alone, then the sum with `residual`, then `self.norm`.",
        ),
    ),
    Exercise(
        name="feed_forward",
        title="feed-forward block",
        part="bert",
        targets=("minbert.encoders.bert:FeedForward.forward",),
        points=3,
        hints=(
            "From H features to I and back, with something between that is not linear.",
            "The activation is GELU, and BERT has the exact one.",
            "`F.gelu` is exact unless you ask for the tanh form. Nothing follows the second map.",
        ),
    ),
    Exercise(
        name="layer",
        title="the layer",
        part="bert",
        targets=("minbert.encoders.bert:BertLayer.forward",),
        points=4,
        uses=("self_attention", "add_norm", "feed_forward"),
        hints=(
            "Two blocks, each followed by its own add & norm.",
            "The second block, and its residual, start from what the first add & norm made.",
            "`self.attention_norm(residual, output)` takes the residual first. Pass `layout` and "
            "`attentions` on to the attention.",
        ),
    ),
    Exercise(
        name="encoder",
        title="the stack of layers",
        part="bert",
        targets=("minbert.encoders.bert:Bert.encode",),
        points=3,
        uses=("embeddings", "layer"),
        hints=(
            "The caller wants every state, not only the last.",
            "Begin a list with the embeddings; each layer adds one more state.",
            "`layout.positions` goes to the embeddings. Call a layer as "
            "`self.run(layer, x, layout, attentions)`, which also knows gradient checkpointing.",
        ),
    ),
    Exercise(
        name="pooler",
        title="pooler",
        part="bert",
        targets=(
            "minbert.encoders.bert:Pooler.forward",
            "minbert.encoders.bert:Bert.pool",
        ),
        points=3,
        hints=(
            "One token of each sequence was made to stand for all of it.",
            "That token is [CLS], the first: `layout.first` finds it, padded or packed.",
            "`Pooler.forward` is a linear map and a tanh; `Bert.pool` hands it the first tokens.",
        ),
    ),
    Exercise(
        name="loading",
        title="loading weights: names of keys",
        part="bert",
        targets=("minbert.loading:hub_names", "minbert.loading:_modern_name"),
        points=4,
        hints=(
            "The table of keys names modules; a parameter's last word, weight or bias, stays.",
            "A layer's number stands for {n} in the table: take it out to look the name up, and "
            "put it in again. Some entries name a parameter itself, such as the head's bias.",
            "`_modern_name` strips the prefix if it is there, and turns a last word gamma or beta "
            "into weight or bias. A name such as beta_layer.weight stays as it is.",
        ),
    ),
    # Part 2: the optimizer
    Exercise(
        name="moments",
        title="AdamW: running moments",
        part="optim",
        targets=("optim.adamw:update_moments",),
        points=3,
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
        hints=(
            "Two straight lines: up from 0 during the warm-up, then down to 0 at the end.",
            "Up: step / warmup. Down: what is left of the steps after the warm-up.",
            "The factor is (total - step) / (total - warmup) after the warm-up, and never below 0; "
            "mind warmup = total. `check_schedule` refuses bad numbers.",
        ),
    ),
    # Part 3: heads and tasks
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
        hints=(
            "One shared layer, one output layer for each task.",
            "Dropout comes before each of the two linear maps, and GELU after the first.",
            'Pair tasks take `self.shared["pair"]` where there is one; a CosineOutput takes the '
            "features as they are. Outputs are raw: no softmax, no squashing.",
        ),
    ),
    Exercise(
        name="compare",
        title="comparing two embeddings",
        part="heads",
        targets=("multitask.heads:compare_concat", "multitask.heads:compare_cosine"),
        points=3,
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
        targets=("multitask.heads:loss_sum",),
        points=4,
        hints=(
            "Three kinds of task, three losses; all take raw outputs.",
            "Cross-entropy for classes, binary cross-entropy with logits, squared error.",
            'Each is a sum over the rows, reduction="sum". For the last two, outputs (B, 1) and '
            "labels (B,) must get the same shape first.",
        ),
    ),
    Exercise(
        name="answers",
        title="from outputs to answers",
        part="heads",
        targets=("multitask.heads:answers",),
        points=3,
        hints=(
            "A class, or a number; and how sure the model is.",
            "Softmax for classes; for a binary task the probability of yes is a sigmoid.",
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
        targets=("data.sampling:uniform_task",),
        points=3,
        hints=(
            "The draw must be the same when a killed run comes to this step again.",
            "So make a generator from the seed and the step, and keep no state between calls.",
            "`np.random.default_rng((seed, 1, step)).integers(...)` gives each the same chance.",
        ),
    ),
    # Part 4: extensions
    Exercise(
        name="mlm_masking",
        title="masking tokens for the masked language model",
        part="extensions",
        targets=("data.masking:Masker.__call__",),
        points=4,
        hints=(
            "Two questions for each token: is it chosen, and if so, what does the model see?",
            "They take two random numbers. Special tokens are never chosen; `self.words` gives "
            "tokens of a word the same number, for `whole_words`.",
            "`chosen` is draw < rate and not special. Of a second draw, below `mask_share` means "
            "[MASK], then up to `random_share` more one of `self.ordinary`, and the rest stays.",
        ),
    ),
    Exercise(
        name="masked_loss",
        title="scores of masked tokens only",
        part="extensions",
        targets=("multitask.model:MaskedLanguageModel.forward",),
        points=3,
        hints=(
            "A score for every word of the vocabulary is large: who needs one?",
            "`batch.masked` counts tokens over the whole batch, padded or packed.",
            "Flatten the last hidden states to (tokens, H), pick `batch.masked`, call the head on "
            "those, and return what `then` makes of the scores.",
        ),
    ),
    Exercise(
        name="layer_rates",
        title="a learning rate for each layer",
        part="extensions",
        targets=("multitask.extensions.layer_lr:LayerLR.lr_scale",),
        points=3,
        hints=(
            "What lies near the input was learnt well before; it should move least.",
            "`model.depths()` lists the parts from input to output, and the heads come last.",
            "The part at distance d from the heads gets decay**d, the heads `self.heads`. "
            "`model.part_of()` says in which part each parameter is.",
        ),
    ),
    Exercise(
        name="bitfit",
        title="freezing, and training biases alone",
        part="extensions",
        targets=(
            "minbert.adapters.apply:freeze",
            "minbert.adapters.apply:train_biases",
            "multitask.extensions.bitfit:BitFit.prepare",
        ),
        points=4,
        hints=(
            "First nothing trains, then what was chosen does; heads are no part of the encoder.",
            'A bias is what is called bias, in LayerNorms too. `"all"` means all of them; other '
            "roles are turned into names of modules by `select(encoder, roles)`.",
            "Look for errors before anything is changed: a part frozen before, a module without a "
            "bias. Then `freeze(encoder)`, and `requires_grad_(True)` on the biases.",
        ),
    ),
    Exercise(
        name="lora_start",
        title="LoRA: first values",
        part="extensions",
        targets=("minbert.adapters.layers:LoRALinear.initialise",),
        points=2,
        hints=(
            "The encoder must not change at first, and yet something must have a gradient.",
            "B A is zero if one of the two is; it is B, and `__init__` has made both zeros.",
            "Fill A in place, evenly between -1/√in and 1/√in, with numbers from `generator`.",
        ),
    ),
    Exercise(
        name="lora_forward",
        title="LoRA: the forward pass",
        part="extensions",
        targets=(
            "minbert.adapters.layers:LoRALinear.forward",
            "minbert.adapters.layers:LoRAEmbedding.forward",
        ),
        points=4,
        hints=(
            "Two ways side by side, and their sum: the base, and a narrow pass through r numbers.",
            "Dropout is on the input of A only; `self.scale` is alpha / r, or alpha / √r.",
            "With `self.magnitude` (DoRA) return `self.rescaled(...)`, and from the embedding the "
            "sum times `self.gain(...)` of (H, V). Looking up ids in A means its columns.",
        ),
    ),
    Exercise(
        name="lora_merge",
        title="LoRA: merging, and undoing it",
        part="extensions",
        targets=(
            "minbert.adapters.layers:LoRA.changed",
            "minbert.adapters.layers:Adapted.merge",
            "minbert.adapters.layers:Adapted.unmerge",
        ),
        points=4,
        hints=(
            "Matrices add up before they meet x as well as after; so W can hold the change.",
            "Whoever asks twice must not get the change twice: `self.is_merged` knows. It is true "
            "while `self._originals` has something in it.",
            "Keep a clone of each parameter that `self.adapter.merged(self.base)` names, then copy "
            "the new value in. To undo, copy the clones back and empty `self._originals`.",
        ),
    ),
    Exercise(
        name="surgery",
        title="gradient surgery",
        part="extensions",
        targets=("multitask.extensions.gradient_surgery:pcgrad",),
        points=5,
        hints=(
            "You have no gradients here, only their dot products; that is enough.",
            "Row i of C begins as g_i itself. To take away a part along g_j is to lower C_ij.",
            "For each i, and each j of `others(i, n, generator)`: g_i'.g_j is row i of C times "
            "column j of the products. Where it is below 0, lower C_ij by it over G_jj.",
        ),
    ),
    Exercise(
        name="vaccine",
        title="gradient vaccine",
        part="extensions",
        targets=("multitask.extensions.gradient_surgery:gradvac",),
        points=5,
        hints=(
            "As surgery, but a cosine is raised to what it usually is, not to 0.",
            "With row c of C, |g_i'| is the root of c G c. Add w to C_ij where the cosine is below "
            "its average; the formula of w is at the head of the file.",
            "The average moves after each cosine, raised or not, and by the cosine from before. "
            "Skip a gradient that is zero, and an average of 1, which would divide by 0.",
        ),
    ),
    Exercise(
        name="rope",
        title="rotary positions",
        part="extensions",
        targets=("minbert.attention:rope_angles", "minbert.attention:apply_rope"),
        points=4,
        hints=(
            "Each pair of features is a point in the plane; a place turns it by an angle.",
            "Pair i is (x_i, x_{i + D/2}), and turns by p θ^(-2i/D) at place p, counted from 0.",
            "(a cos - b sin, a sin + b cos) of the two halves a and b, put together again. Angles "
            "need a dimension of size 1 for the heads; the result has the dtype of x.",
        ),
    ),
    Exercise(
        name="local_attention",
        title="local attention",
        part="extensions",
        targets=(
            "minbert.attention:within_window",
            "minbert.attention:local_mask",
            "minbert.attention:local_attention",
        ),
        points=4,
        uses=("attention",),
        hints=(
            "It is ordinary attention; only the mask is another.",
            "Places as a column minus places as a row are all distances at once.",
            "Near and real, or itself. `local_mask` asks this of all S places; its result is the "
            "mask of `scaled_dot_product_attention`.",
        ),
    ),
    Exercise(
        name="convolution",
        title="span-based dynamic convolution",
        part="extensions",
        targets=("minbert.attention:dynamic_convolution",),
        points=5,
        uses=("heads",),
        hints=(
            "A weighted sum of neighbours, with other weights at every place and for every head.",
            "Put K // 2 zeros on both sides of the tokens; then place s reads s to s + K - 1.",
            "A loop over k will do: slice k of the padded values, split into heads, times kernel k "
            "with a dimension of size 1 for the features; add up.",
        ),
    ),
)

BY_NAME: dict[str, Exercise] = {exercise.name: exercise for exercise in EXERCISES}


def numbered(number: int) -> Exercise:
    """The exercise of this number.

    Raises:
        ValueError: there is none.
    """
    if not 1 <= number <= len(EXERCISES):
        raise ValueError(f"there is no exercise {number}; they are 1 to {len(EXERCISES)}")
    return EXERCISES[number - 1]


def parse_numbers(text: str) -> tuple[Exercise, ...]:
    """The exercises of "3", "1-4" or "1-4,7".

    Raises:
        ValueError: this is no list of numbers.
    """
    chosen: dict[int, Exercise] = {}
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        try:
            numbers = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            raise ValueError(f"{text!r} is no list of exercises; write 3, 1-4 or 1-4,7") from None
        chosen |= {number: numbered(number) for number in numbers}
    if not chosen:
        raise ValueError(f"{text!r} names no exercise; the smaller number comes first, as in 1-4")
    return tuple(chosen.values())
