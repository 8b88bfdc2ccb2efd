"""Fine-tuning BERT on several tasks, written out: load, tokenise, pad, head, AdamW, loop, score.

    python examples/fine_tuning.py sst sts

One encoder, a head for each task, a random task in each step: what `minbert train` does, without
its settings, records and checkpoints. multitask/ has the same steps with all that a long run wants;
tests/test_examples.py holds its losses, weights and scores equal to those made here.

B rows, S longest sequence, H hidden size, K outputs of a task
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from data.readers import SAMPLES, Example, read_split
from data.tasks import Task, get_task
from lab.terminal import errors_as_messages
from minbert import Encoder, Tokenizer, load_backbone
from optim import AdamW, parameter_groups

EPOCHS, BATCH_SIZE, LR = 3, 16, 5e-5


class Classifier(nn.Module):
    """encoder -> pooled (B, H) -> dropout -> Linear -> GELU -> dropout -> the task's Linear."""

    def __init__(self, encoder: Encoder, tasks: Sequence[Task], size: int = 256, p: float = 0.1):
        super().__init__()
        self.encoder, self.dropout = encoder, nn.Dropout(p)
        self.shared = nn.Linear(encoder.config.hidden_size, size)
        self.outputs = nn.ModuleDict({t.name: nn.Linear(size, t.num_outputs) for t in tasks})

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor, task: Task) -> Tensor:
        pooled = self.encoder(ids, mask, types).pooler_output  # (B, H)
        x = F.gelu(self.shared(self.dropout(pooled)))
        return self.outputs[task.name](self.dropout(x))  # (B, K)


def collate(rows: Sequence[Example], tokenizer: Tokenizer) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask and segments of rows, each (B, S), padded to the longest row."""
    texts = [list(column) for column in zip(*(row.texts for row in rows))]
    encoded = tokenizer.encode(*texts)  # one sequence a row: [CLS] text [SEP] second text [SEP]
    ids = [torch.tensor(x) for x in encoded.input_ids]
    types = [torch.tensor(x) for x in encoded.token_type_ids]
    mask = [torch.ones_like(x) for x in ids]
    ids, mask, types = (pad_sequence(x, batch_first=True) for x in (ids, mask, types))
    return ids, mask, types


def mean_loss(outputs: Tensor, labels: Tensor, task: Task) -> Tensor:
    """The mean over rows of the loss of outputs (B, K) with labels (B,)."""
    if task.kind == "classes":
        return F.cross_entropy(outputs, labels.long())
    if task.kind == "binary":
        return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), labels)
    return F.mse_loss(outputs.squeeze(-1), labels)  # a regression


def train_step(
    model: Classifier, optimizer: AdamW, tokenizer: Tokenizer, task: Task, rows: Sequence[Example]
) -> float:
    """Take one step down the gradient of the rows' mean loss, and return that loss."""
    model.train()
    outputs = model(*collate(rows, tokenizer), task)
    loss = mean_loss(outputs, torch.tensor([row.label for row in rows]), task)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def score(model: Classifier, tokenizer: Tokenizer, task: Task, rows: Sequence[Example]) -> float:
    """The accuracy of the model's answers, or for numbers their correlation with the labels."""
    model.eval()
    batches = [rows[i : i + BATCH_SIZE] for i in range(0, len(rows), BATCH_SIZE)]
    outputs = torch.cat([model(*collate(batch, tokenizer), task) for batch in batches])
    labels = torch.tensor([row.label for row in rows])
    if task.kind == "regression":
        return torch.corrcoef(torch.stack([outputs[:, 0], labels]))[0, 1].item()
    answers = outputs.argmax(-1) if task.kind == "classes" else outputs[:, 0] > 0
    return (answers == labels).float().mean().item()


def main(names: Sequence[str]) -> None:
    """Fine-tune MiniLM on tasks such as sst, para, sts and cola."""
    random.seed(11711)
    torch.manual_seed(11711)
    tasks, backbone = [get_task(name) for name in names], load_backbone("minilm")
    train = {task.name: read_split(task, "train", SAMPLES).examples for task in tasks}
    dev = {task.name: read_split(task, "dev", SAMPLES).examples for task in tasks}
    model, tokenizer = Classifier(backbone.encoder, tasks), backbone.tokenizer
    groups = parameter_groups(model.named_parameters(), lr=LR, weight_decay=0.01)
    optimizer = AdamW(groups, lr=LR)
    steps = sum(len(rows) for rows in train.values()) // BATCH_SIZE
    for epoch in range(1, EPOCHS + 1):
        losses = []
        for _ in range(steps):
            task = random.choice(tasks)
            rows = random.sample(train[task.name], BATCH_SIZE)
            losses.append(train_step(model, optimizer, tokenizer, task, rows))
        scores = {t.name: round(score(model, tokenizer, t, dev[t.name]), 3) for t in tasks}
        print(f"epoch {epoch}: mean loss {sum(losses) / steps:.3f}, scores {scores}")


if __name__ == "__main__":
    with errors_as_messages():
        main(sys.argv[1:] or ["sst"])
