"""The examples compute what the library computes; tests/test_bert.py has the page of BERT."""

import math

import pytest
import torch
from helpers import config, make_trainer, weights
from torch import nn

from data.draws import BatchStream, uniform_task
from data.readers import read_split
from examples import bert_written_out, fine_tuning
from minbert import load_backbone
from optim import AdamW, parameter_groups


def test_fine_tuning_written_out_equals_the_trainer(folder):
    names, lr = ("sst", "sts", "para"), 1e-3
    settings = config(folder, tasks=names, epochs=1, schedule="constant", warmup=0.0, lr=lr)
    trainer = make_trainer(settings, torch.float64)
    tasks = trainer.model.tasks

    backbone = load_backbone(settings.backbone)
    model = fine_tuning.Classifier(backbone.encoder, tasks.values(), size=8, p=0.0).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    theirs = {name: as_in_the_library(name) for name, _ in model.named_parameters()}
    assert set(theirs.values()) == trainer.parameters.keys()
    start = weights(trainer)
    model.load_state_dict({own: start[name] for own, name in theirs.items()})
    groups = parameter_groups(model.named_parameters(), lr=lr, weight_decay=0.01)
    optimizer = AdamW(groups, lr=lr)

    rows = {name: read_split(tasks[name], "train", settings.data_dir).examples for name in names}
    order = {
        name: BatchStream([1] * len(found), 8, seed=settings.seed, name=name, bucketed=False)
        for name, found in rows.items()
    }
    drawn, losses = dict.fromkeys(names, 0), []
    for step in range(trainer.total_steps):
        name = uniform_task(names, seed=settings.seed, step=step)
        batch = [rows[name][row] for row in order[name][drawn[name]]]
        drawn[name] += 1
        losses.append(
            fine_tuning.train_step(model, optimizer, backbone.tokenizer, tasks[name], batch)
        )
    progress = trainer.fit()

    lines = [line for line in trainer.run.metrics() if line["kind"] == "step"]
    assert min(drawn.values()) > 0 and len(lines) == 9
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=1e-6)
    for name, parameter in model.named_parameters():
        if not name.endswith("key.bias"):  # its gradient is 0 by a law, and AdamW scales the noise
            found = trainer.parameters[theirs[name]]
            torch.testing.assert_close(parameter, found, rtol=1e-6, atol=1e-7, msg=name)
    for name, metrics in progress.best.items():
        dev = read_split(tasks[name], "dev", settings.data_dir).examples
        found = fine_tuning.score(model, backbone.tokenizer, tasks[name], dev)
        assert found == pytest.approx(metrics[tasks[name].metrics[0]], abs=1e-6), name


def as_in_the_library(name):
    """The library's name of a parameter of the example."""
    part, _, rest = name.partition(".")
    inside = {"encoder": "encoder", "shared": "heads.shared.single", "outputs": "heads.outputs"}
    return f"{inside[part]}.{rest}"


def test_the_page_of_bert_prints_vectors_of_the_library(capsys, minilm_folder):
    text = "A joy from start to end."
    bert_written_out.main(text)
    lines = capsys.readouterr().out.splitlines()
    backbone = load_backbone(minilm_folder)
    encoded = backbone.tokenizer.encode([text])
    with torch.no_grad():
        states = backbone.encoder(torch.tensor(encoded.input_ids)).last_hidden_state[0]
    assert len(lines) == len(states) == 9
    for line, state in zip(lines, states, strict=True):
        _, *numbers, dots = line.split()
        assert dots == "..." and not math.isnan(float(numbers[0]))
        assert [float(number) for number in numbers] == pytest.approx(state[:6].tolist(), abs=2e-3)
