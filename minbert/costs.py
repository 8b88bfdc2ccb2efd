"""What a BERT costs, from its config alone: parameters, memory, operations; and why few parameters
want a larger rate.

H hidden size, I intermediate size, L layers, V vocabulary, S tokens, r rank of LoRA.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor

from minbert.encoders.bert import BertConfig

NUMBER = 4
"""Bytes of a number in float32."""


def bert_parameters(config: BertConfig) -> int:
    """Parameters of a BERT with its pooler, 109,482,240 of bert-base-uncased.

    Weights and biases of the linear maps: 4 of attention, 2 of the feed-forward block, the pooler;
    the three embedding tables; a LayerNorm after the embeddings and after each block.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    norm = 2 * hidden
    tables = config.vocab_size + config.max_positions + config.type_vocab_size
    attention = 4 * (hidden * hidden + hidden) + norm
    feed_forward = hidden * inner + inner + inner * hidden + hidden + norm
    pooler = hidden * hidden + hidden
    return tables * hidden + norm + config.num_layers * (attention + feed_forward) + pooler


def lora_parameters(config: BertConfig, rank: int, roles: Collection[str]) -> int:
    """Parameters that LoRA of a rank trains of a BERT: A (r, in) and B (out, r) of each linear map.

    Args:
        config: the BERT's.
        rank: r.
        roles: of the maps: query, key, value, attention_output, feed_forward_inner and
            feed_forward_outer, which each layer has, and pooler, which is there once.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    ends = 0  # inputs and outputs of all maps together
    for role in roles:
        wide = role in ("feed_forward_inner", "feed_forward_outer")
        count = 1 if role == "pooler" else config.num_layers
        ends += count * (hidden + inner if wide else 2 * hidden)
    return rank * ends


def training_bytes(parameters: int, trained: int) -> int:
    """Bytes that training with Adam keeps from step to step, in float32, without activations.

    Each parameter is there itself, and each that is trained has a gradient and two moments.

    Args:
        parameters: all of the model's, frozen ones too.
        trained: those of them that are trained.
    """
    return NUMBER * (parameters + 3 * trained)


def layer_flops(config: BertConfig, length: int) -> int:
    """Floating-point operations of a layer's matrix products on a sequence, forward.

    A product of (S, in) and (in, out) is S · in · out multiplications and as many additions.
    Besides the six linear maps there are two products of the tokens with each other, Q Kᵀ and P V,
    of all heads together. What else there is (biases, softmax, LayerNorm, GELU) is not counted.

    Args:
        config: the BERT's.
        length: S.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    maps = length * (4 * hidden * hidden + 2 * hidden * inner)
    attention = 2 * length * length * hidden
    return 2 * (maps + attention)


def promised_decrease(lr: float, gradients: Iterable[Tensor]) -> float:
    """By how much a first step of Adam lowers the loss, to first order: lr Σ |g|.

    At the first step m / √v is the sign of g (but for eps), so that each parameter moves by lr,
    however small its gradient is, and the loss falls by lr · |g|.
    """
    return lr * sum(float(gradient.abs().sum()) for gradient in gradients)


def rate_of_few(lr: float, gradients: Mapping[str, Tensor], trained: Collection[str]) -> float:
    """The rate at which training a few parameters promises what training all does at `lr`.

    Of a linear map y = W x + b and one token it is (|x_1| + ... + |x_in| + 1) lr where b alone is
    trained: the gradient of W_ji is x_i times that of b_j.

    Args:
        lr: the rate of training all parameters.
        gradients: of all parameters, by their names.
        trained: names of those that are trained.
    """
    few = promised_decrease(lr, (gradients[name] for name in trained))
    if not few:
        raise ValueError("the parameters that are trained have no gradient, so no rate will do")
    return lr * promised_decrease(lr, gradients.values()) / few
