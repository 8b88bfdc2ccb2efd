"""Part 4: extensions."""

from __future__ import annotations

from lab.exercises.record import Exercise

EXTENSIONS = (
    Exercise(
        name="mlm_masking",
        title="masking tokens for the masked language model",
        part="extensions",
        targets=("data.masking:Masker.__call__",),
        points=4,
        minutes=40,
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
            "Flatten the last hidden states to (tokens, H), pick `batch.masked`, and call the head "
            "on those.",
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
        minutes=40,
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
        level=1,
        minutes=10,
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
        level=3,
        minutes=60,
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
        level=3,
        minutes=60,
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
        level=3,
        minutes=45,
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
        level=3,
        minutes=60,
        uses=("heads",),
        hints=(
            "A weighted sum of neighbours, with other weights at every place and for every head.",
            "Put K // 2 zeros on both sides of the tokens; then place s reads s to s + K - 1.",
            "A loop over k will do: slice k of the padded values, split into heads, times kernel k "
            "with a dimension of size 1 for the features; add up.",
        ),
    ),
    Exercise(
        name="smart",
        title="SMART: smoothness by the worst noise",
        part="extensions",
        targets=(
            "multitask.heads:divergences",
            "multitask.extensions.smart:Smart.worst_noise",
            "multitask.extensions.smart:Smart.penalty",
        ),
        points=5,
        level=3,
        minutes=60,
        hints=(
            "Three questions: how far two outputs are apart, which noise drives them furthest, and "
            "what that costs. Noise is looked for uphill, weights go downhill.",
            "Start from `self.noise * seen.embedding_noise()`. Its gradient is that of the "
            "divergence between `seen.same(noise=noise)` and the clean outputs: take "
            "`torch.autograd.grad` of it, so that the weights' gradients stay out of it.",
            "Divide the gradient by its largest number of each token, go `self.step_size` along "
            "it, `clamp` to the radius, detach, and again. In the penalty nothing but the noise is "
            "detached; the mean weights' outputs come under `torch.no_grad()`.",
        ),
    ),
    Exercise(
        name="contrastive",
        title="a contrastive loss with in-batch negatives",
        part="extensions",
        targets=("multitask.contrastive:ranking_loss",),
        points=4,
        minutes=40,
        hints=(
            "It is a classification: which of the M candidates is this anchor's positive?",
            "All N x M cosines are one product of matrices of rows of length 1; the right class of "
            "anchor i is i. What must not count has a probability of 0, so its score is -inf.",
            "Normalise both, multiply, divide by the temperature; put -inf where the groups are "
            "equal, but for places (i, i); then the cross-entropy with the numbers 0 to N - 1.",
        ),
    ),
    Exercise(
        name="bottleneck",
        title="bottleneck adapters",
        part="extensions",
        targets=(
            "minbert.adapters.bottleneck:Bottleneck.initialise",
            "minbert.adapters.bottleneck:Bottleneck.forward",
            "minbert.adapters.bottleneck:HoulsbySum.forward",
            "minbert.adapters.bottleneck:PfeifferSum.forward",
        ),
        points=5,
        minutes=45,
        hints=(
            "At first the encoder must compute what it did before; which of the two maps sees to "
            "that? And then: what does an adapter read, and to what is its answer added?",
            "A(z) has no residual inside: the sums add it. Houlsby's reads h, the block's output "
            "after dropout; Pfeiffer's reads what the layer would have given without it.",
            "`self.up(self.activation(self.down(z)))`. Houlsby: the norm of residual, h and A(h). "
            "Pfeiffer: total = residual + h, then the norm of total and A(norm of total).",
        ),
    ),
)
