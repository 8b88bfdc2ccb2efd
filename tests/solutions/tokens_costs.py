"""Right solutions of part 5."""

import re
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import torch

from minbert import subwords
from minbert.encoders.bert import Bert
from solutions import solution


@solution("wordpiece")
def pieces_by_beginnings(word, vocabulary, *, unknown="[UNK]", longest=100):
    if len(word) > longest:
        return (unknown,)
    pieces = ()
    while word:
        marked = [("##" if pieces else "") + word[: n + 1] for n in range(len(word))]
        known = [piece for piece in marked if piece in vocabulary]
        if not known:
            return (unknown,)
        best = max(known, key=len)
        word = word[marked.index(best) + 1 :]
        pieces = (*pieces, best)
    return pieces


@solution("wordpiece")
def pieces_by_dropping_letters(word, vocabulary, *, unknown="[UNK]", longest=100):
    output = []
    characters = list(word)
    if len(characters) > longest:
        output.append(unknown)
        return output
    bad, start = False, 0
    while start < len(characters):
        end, current = len(characters), None
        while start < end:
            substring = "".join(characters[start:end])
            if start > 0:
                substring = f"##{substring}"
            if substring in vocabulary:
                current = substring
                break
            end -= 1
        if current is None:
            bad = True
            break
        output.append(current)
        start = end
    return [unknown] if bad else output


@solution("bpe_merge", of="pair_counts")
def counts_in_a_plain_table(words):
    table = defaultdict(int)
    for symbols, count in words.items():
        for place in range(len(symbols) - 1):
            table[symbols[place], symbols[place + 1]] += count
    return dict(table)


@solution("bpe_merge", of="pair_counts")
def counts_by_repetition(words):
    pairs = [pairwise(s) for s, n in words.items() for _ in range(n)]
    return Counter(pair for some in pairs for pair in some)


@solution("bpe_merge", of="merge_pair")
def merged_by_looking_back(symbols, pair):
    output, fresh = [], False
    for symbol in symbols:
        if output and not fresh and (output[-1], symbol) == pair:
            output[-1] += symbol
            fresh = True
        else:
            output.append(symbol)
            fresh = False
    return output


@solution("bpe_merge", of="merge_pair")
def merged_in_place(symbols, pair):
    i = 0
    while i < len(symbols) - 1:
        if (symbols[i], symbols[i + 1]) == pair:
            symbols[i : i + 2] = ["".join(pair)]
        i += 1
    return symbols


@solution("bpe_merge", of="merge_pair")
def merged_by_an_expression(symbols, pair):
    first, second = map(re.escape, pair)
    text = re.sub(rf"(?<!\S){first} {second}(?!\S)", "".join(pair), " ".join(symbols))
    return text.split(" ")


@solution("bpe")
def merges_in_turn(word, ranks):
    symbols = [*word]
    for pair in sorted(ranks, key=lambda pair: ranks[pair]):
        if pair in pairwise(symbols):
            symbols = subwords.merge_pair(symbols, pair)
    return symbols


@solution("bpe")
def one_place_at_a_time(word, ranks):
    symbols = list(word)
    while len(symbols) > 1:
        pairs = pairwise(symbols)
        rank, n = min((ranks.get(pair, np.inf), n) for n, pair in enumerate(pairs))
        if rank == np.inf:
            break
        symbols = [*symbols[:n], symbols[n] + symbols[n + 1], *symbols[n + 2 :]]
    return tuple(symbols)


@solution("parameters", of="bert_parameters")
def parameters_of_the_module(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Bert(config).parameters())


@solution("parameters", of="bert_parameters")
def parameters_of_shapes(config):
    h, i = config.hidden_size, config.intermediate_size
    layer = 4 * [(h, h), (h,)] + [(h, i), (i,), (i, h), (h,)] + 4 * [(h,)]
    rest = [(config.vocab_size, h), (config.max_positions, h), (config.type_vocab_size, h)]
    rest += [(h,), (h,), (h, h), (h,)]
    return np.int64(sum(np.prod(shape) for shape in rest + config.num_layers * layer))


@solution("parameters", of="lora_parameters")
def lora_by_table(config, rank, roles):
    h, i, n = config.hidden_size, config.intermediate_size, config.num_layers
    once = {"pooler": h + h, "feed_forward_inner": n * (h + i), "feed_forward_outer": n * (i + h)}
    return torch.tensor(rank * sum(once.get(role, n * (h + h)) for role in roles))


@solution("memory_flops", of="training_bytes")
def bytes_of_frozen_and_trained(parameters, trained):
    frozen = parameters - trained
    return float(frozen * 4 + trained * 16)


@solution("memory_flops", of="layer_flops")
def flops_map_by_map(config, length):
    def product(rows, inner, columns):
        return 2 * rows * inner * columns

    h, i = config.hidden_size, config.intermediate_size
    size = h // config.num_heads
    total = sum(product(length, h, h) for _ in ("query", "key", "value", "output"))
    total += config.num_heads * (product(length, size, length) + product(length, length, size))
    return total + product(length, h, i) + product(length, i, h)


@solution("few_rate", of="promised_decrease")
def decrease_of_a_step(lr, gradients):
    return sum((lr * gradient.sign() * gradient).sum() for gradient in gradients)


@solution("few_rate", of="rate_of_few")
def rate_by_vectors(lr, gradients, trained):
    everything = torch.cat([gradient.flatten() for gradient in gradients.values()])
    few = torch.cat([gradients[name].reshape(-1) for name in trained])
    return lr * everything.norm(p=1) / few.norm(p=1)
