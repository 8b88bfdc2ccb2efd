"""Part 3: row by row, by definition, by matrix products."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from solutions import solution


@solution("pooling", of="Padded.mean")
def mean_by_matmul(self, x):
    weights = self.mask / self.mask.sum(1, keepdim=True)
    return torch.bmm(weights.unsqueeze(1).to(x.dtype), x).squeeze(1)


@solution("pooling", of="Padded.mean")
def mean_of_nan(self, x):
    return torch.where(self.mask[..., None], x, torch.nan).nanmean(1)


@solution("pooling", of="Padded.max")
def max_of_lowered(self, x):
    return (x - 1e9 * (~self.mask)[..., None]).max(dim=1).values


@solution("pair")
def encoded_row_by_row(self, texts, pairs=None, *, max_length=None):
    """Special tokens, segments and cuts by hand."""
    from minbert.tokenization import Encodings

    first, last = (self.fast.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    rows, types, cut = [], [], ()
    for number, row in enumerate(zip(texts) if pairs is None else zip(texts, pairs)):
        parts = [self.fast.encode(text, add_special_tokens=False).ids for text in row]
        room = float("inf") if max_length is None else max_length - 1 - len(parts)
        cut += (number,) * (sum(map(len, parts)) > room)
        while sum(map(len, parts)) > room:
            max(parts, key=len).pop()
        rows.append([first, *(token for part in parts for token in (*part, last))])
        types.append([0] * (len(parts[0]) + 2) + [1] * (len(rows[-1]) - len(parts[0]) - 2))
    return Encodings(rows, types, cut)


@solution("classifier")
def heads_in_sequence(self, features, task):
    output = self.outputs[task]
    if isinstance(output, nn.Linear):
        name = ("single", "pair")[task in self.paired]
        parts = (self.dropout, self.shared[name], self.activation, self.dropout)
        for part in parts:
            features = part(features)
    return output(features)


@solution("compare", of="compare_concat")
def stacked_sideways(u, v):
    return torch.hstack((u, v, torch.abs(v - u)))


@solution("compare", of="compare_cosine")
def product_of_normalised(u, v):
    return (F.normalize(u, dim=-1) * F.normalize(v, dim=-1)).sum(-1, keepdim=True)


@solution("losses")
def losses_by_hand(task, outputs, labels):
    outputs = outputs.float()
    if task.kind in ("classes", "tokens"):
        return F.nll_loss(outputs.log_softmax(-1), labels.long(), reduction="none")
    if task.kind == "regression":
        return (outputs[:, 0] - labels).pow(2)
    if task.kind == "labels":
        return (F.softplus(outputs) - labels * outputs).sum(1) / outputs.size(1)
    signed = (2 * labels - 1) * outputs.view(-1)
    return -F.logsigmoid(signed)


@solution("answers")
def answers_by_hand(task, outputs):
    if task.kind == "tokens":
        return outputs.max(-1).indices, None
    if task.kind == "regression":
        return outputs[:, 0], None
    if task.kind == "binary":
        logits = outputs[:, 0]
        yes = 1 / (1 + torch.exp(-logits))
        return (logits > 0).long(), torch.stack([1 - yes, yes], 1)
    if task.kind == "labels":
        return (outputs > 0).long(), (1 + outputs.neg().exp()).reciprocal()
    exponentials = (outputs - outputs.amax(-1, keepdim=True)).exp()
    return outputs.max(-1).indices, exponentials / exponentials.sum(-1, keepdim=True)


@solution("freezing")
def built_by_hand(cls, config, encoder):
    from data.tasks import TASKS

    state = torch.random.get_rng_state()
    torch.random.manual_seed(config.seed)
    model = cls(
        encoder, [TASKS[name] for name in config.tasks], head=config.head,
        pooling=config.pooling, pair=config.pair, head_size=config.head_size,
        head_dropout=config.head_dropout, head_activation=config.head_activation,
    )  # fmt: skip
    encoder.gradient_checkpointing = config.gradient_checkpointing
    for module in encoder.modules():
        if isinstance(module, nn.Dropout) and config.encoder_dropout is not None:
            module.p = config.encoder_dropout
    for parameter in encoder.parameters():
        parameter.requires_grad = not config.frozen
    for extension in config.extensions:
        extension.prepare(model)
    torch.random.set_rng_state(state)
    return model


@solution("sampling")
def drawn_by_share(tasks, *, seed, step):
    return tasks[int(np.random.default_rng([step, seed]).random() * len(tasks))]


@solution("answers")
def answers_in_int32(task, outputs):
    if task.kind in ("regression", "tokens"):
        return outputs[:, 0] if task.kind == "regression" else outputs.argmax(-1), None
    if task.kind == "labels":
        return (outputs > 0).int(), outputs.sigmoid()
    if task.kind == "binary":
        return (outputs[:, 0] > 0).int(), torch.cat([(-outputs).sigmoid(), outputs.sigmoid()], 1)
    return outputs.argmax(-1).int(), outputs.softmax(-1)
