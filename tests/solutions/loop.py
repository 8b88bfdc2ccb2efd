"""Part 5: by PyTorch's and scikit-learn's own functions, by sorting, in one line or in many."""

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from solutions import solution


@solution("batch", of="layout_of")
def layout_by_numpy(lengths, kind):
    from minbert.layouts import Packed, Padded

    if kind == "packed":
        return Packed([*lengths])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    return Padded(torch.as_tensor(mask).long())


@solution("batch", of="lay_out")
def padded_by_torch(rows, kind, *, fill):
    tensors = [torch.as_tensor(row).long() for row in rows]
    if kind == "packed":
        return torch.cat(tensors)
    return pad_sequence(tensors, batch_first=True, padding_value=fill)


@solution("batch", of="BatchStream._order")
def order_by_keys(self, number):
    """Another generator, ties broken at random, batches shuffled by a permutation."""
    generator = np.random.default_rng([number, *self._seed, 7])
    keys = generator.random(len(self._lengths))
    rows, size = keys.argsort().astype(np.int32), self._batch_size
    pool = 50 * size if self._bucketed else len(rows)
    batches = []
    for start in range(0, len(rows), pool):
        part = [*rows[start : start + pool]]
        if self._bucketed:
            part.sort(key=lambda row: (self._lengths[row], keys[row]))
        batches.extend(np.array(part[n : n + size]) for n in range(0, len(part), size))
    return [batches[n] for n in generator.permutation(len(batches))]


@solution("clipping")
def clipped_by_torch(parameters, limit):
    return torch.nn.utils.clip_grad_norm_(parameters, limit)


@solution("clipping")
def clipped_by_hand(parameters, limit):
    found = [p for p in parameters if p.grad is not None]
    total = torch.zeros(())
    for p in found:
        total += (p.grad**2).sum()
    norm = total.sqrt()
    if norm > limit:
        for p in found:
            p.grad = p.grad * limit / norm
    return norm


@solution("accumulation", of="Engine._weight")
def weight_in_a_loop(self, shares):
    from multitask.distributed import sum_over_processes

    rows = torch.zeros(1)
    for share in shares:
        if share.factor:
            rows += share.batch.weight
    return torch.maximum(sum_over_processes(rows), torch.ones(1)).squeeze()


@solution("accumulation", of="Engine._backward_each")
def numbered(self, task, shares, *, reduce):
    from multitask.distributed import count

    rows, left, losses = self._weight(shares), len(shares), []
    for share in shares:
        left -= 1
        low = torch.autocast("cpu", torch.bfloat16, enabled=self._precision == "bf16")
        with self._pass(last=reduce and not left), low:
            loss, plain = self.parallel(share.batch, task, rows, share.factor)
            self.scaler.scale(count() * loss).backward()
        losses.append(plain)
    return torch.stack(losses).sum()


def flat_lists(score, labels, answers):
    labels, answers = np.broadcast_arrays(labels, answers)
    shape, rows = labels.shape[:-1], labels.shape[-1]
    lists = zip(labels.reshape(-1, rows), answers.reshape(-1, rows), strict=True)
    return np.array([score(*each) for each in lists], dtype=float).reshape(shape)


@solution("metrics", of="_macro_f1")
def macro_f1_by_library(labels, answers):
    from multitask.metrics import macro_f1

    return flat_lists(macro_f1, labels, answers)


@solution("metrics", of="_matthews")
def matthews_by_one_hot(labels, answers):
    classes = np.union1d(labels, answers)
    x, y = (np.equal.outer(v, classes).astype(float) for v in (labels, answers))
    x, y = x - x.mean(-2, keepdims=True), y - y.mean(-2, keepdims=True)
    above, below = (x * y).sum((-1, -2)), (x * x).sum((-1, -2)) * (y * y).sum((-1, -2))
    return np.where(below > 1e-12, above / np.sqrt(np.maximum(below, 1e-12)), 0.0)


@solution("metrics", of="_pearson")
def pearson_by_numpy(labels, answers):
    def score(x, y):
        return 0.0 if len(set(x)) == 1 or len(set(y)) == 1 else np.corrcoef(x, y)[0, 1]

    return flat_lists(score, labels, answers)
