"""Part 6: tokens and costs."""

from __future__ import annotations

from lab.exercises.record import Exercise

TOKENS_COSTS = (
    Exercise(
        name="wordpiece",
        title="WordPiece's greedy longest match",
        part="tokens-costs",
        targets=("minbert.subwords:word_pieces",),
        points=4,
        hints=(
            "Which piece does the word begin with? And then: what is left of the word?",
            "Try the longest piece that begins here, then one character less, and so on. Inside of "
            "a word a piece is looked up, and written, with ## before it.",
            "Two loops: a start that moves to the end of what was found, and an end that comes "
            "down from the word's. Where no end will do the whole word is `unknown`; so is one "
            "with more than `longest` characters, before anything is looked up.",
        ),
    ),
    Exercise(
        name="bpe_merge",
        title="byte-pair encoding: counting and merging",
        part="tokens-costs",
        targets=("minbert.subwords:pair_counts", "minbert.subwords:merge_pair"),
        points=3,
        level=1,
        hints=(
            "Learning counts which two symbols stand side by side most often, and makes them one.",
            "A pair counts once for each place where it stands, times how often its word stands in "
            "the text. The order of its two symbols counts, and each word is for itself.",
            "To merge, walk from left to right: where this symbol and the next are the pair, write "
            "them as one and go on behind both, else write this one. Compare symbols, not letters.",
        ),
    ),
    Exercise(
        name="bpe",
        title="byte-pair encoding: a word's merges",
        part="tokens-costs",
        targets=("minbert.subwords:apply_merges",),
        points=3,
        uses=("bpe_merge",),
        hints=(
            "Cutting a word does again what learning did, in the same order.",
            "Begin with the characters. Which neighbours were learnt at all, and which of them "
            "first?",
            "Of the pairs that stand side by side and are in `ranks`, merge the one with the "
            "smallest rank, everywhere, by `merge_pair`. Look again until there is none.",
        ),
    ),
    Exercise(
        name="parameters",
        title="how many parameters, of BERT and of LoRA",
        part="tokens-costs",
        targets=("minbert.costs:bert_parameters", "minbert.costs:lora_parameters"),
        points=3,
        level=1,
        hints=(
            "Go through the model from bottom to top: which matrices are there, and which vectors?",
            "A linear map from n to m features has n · m weights and m biases, a LayerNorm 2 H "
            "parameters, an embedding table H for each of its rows.",
            "Embeddings: three tables and a LayerNorm. A layer: 4 maps from H to H, one from H to "
            "I, one back, 2 LayerNorms. At the end the pooler, from H to H. LoRA has r (in + out) "
            "for each map, and no biases.",
        ),
    ),
    Exercise(
        name="memory_flops",
        title="memory of Adam, operations of a layer",
        part="tokens-costs",
        targets=("minbert.costs:training_bytes", "minbert.costs:layer_flops"),
        points=3,
        level=1,
        minutes=25,
        hints=(
            "What does Adam keep of each parameter, and of which ones? Which products of matrices "
            "does a layer have, and how large are they?",
            "Four numbers of four bytes for each trained parameter: itself, its gradient, m and v. "
            "A frozen one has itself alone.",
            "Six linear maps, S · in · out each; Q Kᵀ and P V, S · S · H each, all heads together. "
            "Each of these is a multiplication and an addition, so twice.",
        ),
    ),
    Exercise(
        name="few_rate",
        title="why few parameters want a larger rate",
        part="tokens-costs",
        targets=("minbert.costs:promised_decrease", "minbert.costs:rate_of_few"),
        points=3,
        hints=(
            "How far does Adam's first step move a parameter whose gradient is small, and one "
            "whose gradient is large?",
            "Each moves by lr, against the sign of its gradient. The loss then falls by lr times "
            "the gradient's size: add that up.",
            "Add up all sizes |g|, and those of the trained parameters alone. The rates must be in "
            "the opposite proportion for their products to be equal.",
        ),
    ),
)
