"""Adapters that tasks have of their own: every method, on every encoder, in both layouts.

The reference is written out here in float64, one text at a time; it is what the adapters library
(1.3.0) computes of a BERT, to 1e-14, which our versions of other libraries do not go with.
"""

import copy
import math
from dataclasses import dataclass, replace

import pytest
import torch
from helpers import (
    config,
    contents,
    make_trainer,
    pretrain_config,
    weights,
    without_seconds,
    write_backbone,
)
from torch import nn

from minbert import Packed, load_backbone
from minbert.adapters import (
    BottleneckSettings,
    PalSettings,
    PrefixSettings,
    add_bottlenecks,
    add_pals,
    add_prefixes,
)
from minbert.attention import apply_rope, dynamic_convolution, rope_angles
from minbert.encoder import ENCODERS
from minbert.encoders.modernbert_config import LOCAL
from minbert.layouts import Padded
from multitask import Predictor, resume, train
from multitask.commands.main import parse
from multitask.experiments.averaging import average
from multitask.export.folders import export_run
from multitask.extensions.base import Extension, extension_from_dict, extension_to_dict
from multitask.extensions.bottleneck import Bottleneck
from multitask.extensions.pal import Pal
from multitask.extensions.prefix import Prefix
from multitask.loop.trainer import Trainer
from multitask.runs.checkpoint import load_checkpoint
from multitask.runs.origin import trained_backbone

pytestmark = pytest.mark.usefixtures("no_figure")

BACKBONES = {
    "bert": {},
    "convbert": {"embedding_size": 12, "batch_invariant": True},
    "modernbert": {"local_attention": 8},
}
METHODS = {
    "houlsby": (add_bottlenecks, BottleneckSettings(kind="houlsby", size=5)),
    "pfeiffer": (add_bottlenecks, BottleneckSettings(kind="pfeiffer", size=5, activation="relu")),
    "pal": (add_pals, PalSettings(size=6, heads=2)),
    "prefix": (add_prefixes, PrefixSettings(length=3)),
}
EXTENSIONS = {
    "houlsby": Bottleneck(kind="houlsby", size=5, frozen=False),
    "pfeiffer": Bottleneck(size=5, activation="swish"),
    "pal": Pal(size=6, heads=2, frozen=False),
    "prefix": Prefix(length=3, per_task=False),
}
TASKS = ("sst", "sts")
LENGTHS = (9, 30, 4)
CLOSE = {"rtol": 1e-9, "atol": 1e-10}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module", params=BACKBONES)
def plain(request, tmp_path_factory):
    """A tiny encoder in float64, whose dropout is not by chance."""
    folder = tmp_path_factory.mktemp("backbone")
    cls = ENCODERS[request.param]
    encoder = load_backbone(write_backbone(folder, encoder=cls, **BACKBONES[request.param])).encoder
    for layer in encoder.layers if request.param != "modernbert" else ():
        layer.attention_norm.dropout = layer.feed_forward_norm.dropout = EveryThird()
    return encoder.double().eval()


class EveryThird(nn.Module):
    """A dropout of every third feature."""

    def forward(self, x):
        return x * (torch.arange(x.size(-1)) % 3 > 0) * 1.5


def adapted(plain, method, *, filled=True, **changes):
    """A copy of the encoder with adapters of both tasks, which have random values if `filled`."""
    encoder, (add, settings) = copy.deepcopy(plain), METHODS[method]
    add(encoder, replace(settings, **changes), TASKS, generator=torch.Generator().manual_seed(0))
    encoder.double()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in encoder.named_parameters():
        if filled and ".sets." in name:
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return encoder


def texts(encoder):
    """Ids and segments of three texts."""
    generator = torch.Generator().manual_seed(2)
    sizes = encoder.config.vocab_size, getattr(encoder.config, "type_vocab_size", 1)
    return [
        tuple(torch.randint(size, (length,), generator=generator) for size in sizes)
        for length in LENGTHS
    ]


def encoded(encoder, layout):
    """The last hidden states of all texts, (T, H)."""
    ids, types = zip(*texts(encoder), strict=True)
    if layout == "packed":
        where = Packed(LENGTHS)
        output = encoder(torch.cat(ids), token_type_ids=torch.cat(types), layout=where)
        return output.last_hidden_state
    ids, types = (nn.utils.rnn.pad_sequence(x, batch_first=True) for x in (ids, types))
    real = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    return encoder(ids, real, types).last_hidden_state[real]


def gradients(states, parameters):
    weight = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view(states.shape)
    return torch.autograd.grad((states * weight).sum(), parameters, allow_unused=True)


# The reference


def linear(module, x):
    y = torch.einsum("...i,oi->...o", x, module.weight)
    return y if module.bias is None else y + module.bias


def norm(module, x):
    if isinstance(module, nn.Identity):
        return x
    centred = x - x.mean(-1, keepdim=True)
    y = centred / (centred.square().mean(-1, keepdim=True) + module.eps).sqrt() * module.weight
    return y if module.bias is None else y + module.bias


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def attention(query, key, value, heads, window=None, before=None):
    """One text's attention, head by head; a prefix (keys, values) is seen by all its tokens."""
    size, places = query.size(-1) // heads, torch.arange(len(query))
    far = (places[:, None] - places).abs() > (len(query) if window is None else window)
    outputs = []
    for n in range(heads):
        q, k, v = (x[:, n * size : (n + 1) * size] for x in (query, key, value))
        scores = (q @ k.T / math.sqrt(size)).masked_fill(far, -math.inf)
        if before is not None:
            pk, pv = (x[:, n * size : (n + 1) * size] for x in before)
            scores, v = torch.cat([q @ pk.T / math.sqrt(size), scores], dim=1), torch.cat([pv, v])
        shares = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
        outputs.append(shares @ v)
    return torch.cat(outputs, dim=-1)


def attention_block(encoder, layer, n, x, before=None):
    """A layer's attention to its output map, of one text (S, H); one in ConvBERT, half of it is a
    convolution, which has no prefix."""
    block, heads, window = layer.attention, layer.attention.num_heads, None
    if encoder.name == "modernbert":
        (kind, (_, theta, factor)) = next(
            (kind, rope) for kind in [encoder.config.layer_types[n]]
            for rope in encoder.config.ropes if rope[0] == kind
        )  # fmt: skip
        size = x.size(-1) // heads
        angles = rope_angles(torch.arange(len(x)) / factor, size, theta)
        parts = linear(block.query_key_value, x).view(len(x), 3, heads, size).unbind(1)
        query, key = (apply_rope(part, *angles).flatten(-2) for part in parts[:2])
        value, window = parts[2].flatten(-2), block.window if kind == LOCAL else None
    else:
        query, key, value = (linear(getattr(block, m), x) for m in ("query", "key", "value"))
    context = attention(query, key, value, heads, window, before)
    if encoder.name == "convbert":
        layout = Padded(torch.ones(1, len(x), dtype=torch.bool))
        kernel = block.convolution_kernel(query * block.span_key(x[None], layout, True))
        kernel = kernel.unflatten(-1, (heads, -1)).softmax(-1)
        convolved = dynamic_convolution(block.convolution_value(x)[None], kernel)[0]
        context = torch.cat([context, convolved], dim=-1)
    return linear(block.output, context)


@dataclass
class Reference:
    """An encoder with adapters for a task, written out."""

    encoder: nn.Module
    method: str
    task: str

    def of(self, module):
        return module.adapters.sets[self.task]

    def bottleneck(self, module, z):
        own = self.of(module)
        f = gelu if self.method == "houlsby" else torch.relu
        return linear(own.up, f(linear(own.down, z)))

    def added(self, module, residual, output, beside=0.0):
        """The sum at the end of a block."""
        h = module.dropout(output)
        if self.method == "houlsby":
            beside = self.bottleneck(module, h)
        elif self.method == "pfeiffer" and hasattr(module, "adapters"):
            beside = self.bottleneck(module, norm(module.norm, residual + h))
        return norm(module.norm, residual + h + beside)

    def pal(self, layer, x):
        own = self.of(layer.get_submodule(self.encoder.SUMS[1]))
        low = linear(own.projections.encode, x)
        query, key, value = (linear(m, low) for m in (own.query, own.key, own.value))
        window = getattr(layer.attention, "window", None)
        found = attention(query, key, value, own.num_heads, window)
        return linear(own.projections.decode, found)

    def layer(self, n, layer, x):
        first, second = (layer.get_submodule(name) for name in self.encoder.SUMS)
        pre_norm = self.encoder.name == "modernbert"
        seen = norm(layer.attention_norm, x) if pre_norm else x
        prefix = self.of(layer.attention) if self.method == "prefix" else None
        before = None if prefix is None else (prefix.keys, prefix.values)
        beside = self.pal(layer, seen) if self.method == "pal" else 0.0
        x = self.added(first, x, attention_block(self.encoder, layer, n, seen, before))
        inner = norm(layer.feed_forward_norm, x) if pre_norm else x
        return self.added(second, x, layer.feed_forward(inner), beside)

    def __call__(self):
        rows = []
        for ids, types in texts(self.encoder):
            inputs = () if self.encoder.name == "modernbert" else (types, torch.arange(len(ids)))
            x = self.encoder.embeddings(ids, *inputs)
            for n, layer in enumerate(self.encoder.layers):
                x = self.layer(n, layer, x)
            rows.append(norm(getattr(self.encoder, "final_norm", nn.Identity()), x))
        return torch.cat(rows)


@EVERY_METHOD
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_outputs_and_gradients_are_those_of_the_formulas(plain, method, layout):
    encoder = adapted(plain, method, frozen=False)
    named = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
    found = {}
    for task in TASKS:
        with encoder.choice.of(task):
            found[task] = encoded(encoder, layout)
        wanted = Reference(encoder, method, task)()
        torch.testing.assert_close(found[task], wanted, **CLOSE)
        pairs = zip(gradients(found[task], named.values()), gradients(wanted, named.values()))
        for name, (ours, theirs) in zip(named, pairs, strict=True):
            of_another = ".sets." in name and f".sets.{task}." not in name
            assert (ours is None) == (theirs is None) == (of_another or "pooler" in name), name
            if ours is not None:
                torch.testing.assert_close(ours, theirs, **CLOSE, msg=lambda m, n=name: f"{n} {m}")
    assert (found["sst"] - found["sts"]).abs().max() > 0.1


@EVERY_METHOD
def test_the_start_is_the_pretrained_encoder(plain, method):
    encoder = adapted(plain, method, filled=False)
    with encoder.choice.of("sts"), torch.no_grad():  # where attention takes one kernel for both
        same = torch.equal(encoded(encoder, "packed"), encoded(plain, "packed"))
    assert same == (method != "prefix")
    for layer in encoder.layers if method == "prefix" else ():
        for own in layer.attention.adapters.sets.values():
            assert not own.values.any() and 0.005 < own.keys.std() < 0.04
    with encoder.choice.of("sts"):
        states = encoded(encoder, "padded")
    own = [p for n, p in encoder.named_parameters() if ".sets.sts." in n]
    assert any(g is not None and g.any() for g in gradients(states, own)), "nothing would learn"


@EVERY_METHOD
@pytest.mark.parametrize("per_task", [True, False])
def test_parameters_are_as_many_as_the_formula_says(plain, method, per_task):
    alone = adapted(plain, method, per_task=per_task, frozen=True)
    hidden, layers, m = plain.config.hidden_size, len(plain.layers), METHODS[method][1]
    attended = hidden // 2 if plain.name == "convbert" else hidden
    count = {
        "houlsby": lambda: 2 * layers * (2 * hidden * m.size + m.size + hidden),
        "pfeiffer": lambda: layers * (2 * hidden * m.size + m.size + hidden),
        "pal": lambda: 2 * hidden * m.size + m.size + hidden + 3 * layers * (m.size**2 + m.size),
        "prefix": lambda: 2 * layers * m.length * attended,
    }[method]()
    trained = {n: p for n, p in alone.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == count * (2 if per_task else 1)
    names = set(TASKS) if per_task else {"shared"}
    assert {n.split(".sets.")[1].split(".")[0] for n in trained} == names
    both = adapted(plain, method, per_task=per_task, frozen=False)
    assert {n for n, p in both.named_parameters() if not p.requires_grad} == set()
    kept = [n for n, _ in both.named_parameters() if n not in trained]
    assert kept == [n for n, _ in plain.named_parameters()], "the encoder's own names have changed"


@EVERY_METHOD
def test_what_is_computed_again_is_of_the_task_it_was_computed_for(plain, method):
    """Two tasks forward, then backward in turn, by gradient checkpointing and without."""
    found = []
    for again in (False, True):
        encoder = adapted(plain, method).train()
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        encoder.gradient_checkpointing = again
        states = {}
        for task in TASKS:
            with encoder.choice.of(task):
                states[task] = encoded(encoder, "packed")
        own = {n: p for n, p in encoder.named_parameters() if ".sets." in n}
        found.append([gradients(states[task], own.values()) for task in TASKS])
    for once, twice in zip(*found, strict=True):
        for ours, theirs in zip(once, twice, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or torch.equal(ours, theirs)


def test_attention_maps_hold_the_prefix(plain):
    encoder = adapted(plain, "prefix")
    (ids, types), *_ = texts(encoder)
    with encoder.choice.of("sst"):
        output = encoder(ids[None], token_type_ids=types[None], output_attentions=True)
        again = encoder(ids[None], token_type_ids=types[None])
    torch.testing.assert_close(output.last_hidden_state, again.last_hidden_state, **CLOSE)
    for probabilities in output.attentions:
        assert probabilities.shape[-2:] == (len(ids), 3 + len(ids))
        assert probabilities.sum(-1).allclose(torch.ones(()).double())


def test_the_wrong_call_says_what_to_do(plain):
    encoder = adapted(plain, "pfeiffer")
    with pytest.raises(ValueError, match=r"of their own for sst, sts, and is called for no task; "):
        encoded(encoder, "packed")
    with encoder.choice.of("para"), pytest.raises(ValueError, match="is called for para; call it"):
        encoded(encoder, "packed")
    with pytest.raises(ValueError, match="has adapters of tasks already, and they do not stand"):
        add_pals(encoder, PalSettings(), TASKS)
    encoded(adapted(plain, "pfeiffer", per_task=False), "packed")  # whose task need not be known
    with pytest.raises(ValueError, match="size 5 is not divisible by heads 2; choose a divisor"):
        PalSettings(size=5, heads=2)
    with pytest.raises(ValueError, match="length must be at least 1, it is 0"):
        PrefixSettings(length=0)


# Runs


@dataclass(frozen=True, kw_only=True)
class Only(Extension):
    """One task in every step."""

    name = "only"
    task: str = "sst"

    def choose_tasks(self, step):
        return [self.task]


def settings(folder, method, **changes):
    common = {"pooling": "mean", "epochs": 1, "save_every": 1, "gradient_checkpointing": True}
    own = EXTENSIONS[method]
    return config(folder, **{**common, "extensions": (own,), **changes})


@EVERY_METHOD
def test_training_on_one_task_leaves_the_others_sets_alone(folder, method):
    extension = replace(EXTENSIONS[method], per_task=True)
    trainer = make_trainer(settings(folder, method, extensions=(extension, Only())))
    before = weights(trainer)
    for _ in range(3):
        trainer.step()
    changed = {n for n, p in trainer.parameters.items() if not torch.equal(p, before[n])}
    own = {n for n in before if ".sets.sst." in n}
    assert own <= changed and not [n for n in changed if ".sets.sts." in n]
    inside = {n for n in changed if n.startswith("encoder.")}
    assert (inside > own) == (not extension.frozen)


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=[pytest.mark.slow] if m in ("houlsby", "pal") else []) for m in METHODS],
)
def test_a_run_resumes_predicts_and_is_refused_as_a_backbone(folder, tmp_path, method, monkeypatch):
    dropped = {"encoder_dropout": 0.1, "head_dropout": 0.1}
    chosen = settings(folder, method, out=tmp_path / "alone", **dropped)
    run = train(chosen, progress=False)
    step = Trainer.step

    def cut(trainer):
        if trainer.progress.step == 2:
            raise ConnectionError("cut")
        step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", cut)
        with pytest.raises(ConnectionError):
            train(replace(chosen, out=tmp_path / "cut"), progress=False)
    resumed = resume(tmp_path / "cut", progress=False)
    assert without_seconds(resumed.metrics()) == without_seconds(run.metrics())
    (found, _), (wanted, _) = (load_checkpoint(one.last) for one in (resumed, run))
    assert found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in found)
    assert contents(resumed.predictions) == contents(run.predictions)

    predictor = Predictor(run.folder)
    scores = predictor.evaluate("dev")["sst"].metrics
    assert scores == pytest.approx(run.record()["dev"]["sst"], rel=1e-5)
    name = EXTENSIONS[method].name
    for act in (lambda: export_run(run.folder, tmp_path / "out"), lambda: trained_backbone(run)):
        with pytest.raises(ValueError, match=f"{name} has parameters between the encoder's own"):
            act()
    averaged = average([run.folder, resumed.folder], tmp_path / "mean")
    assert averaged.record()["dev"]["sst"] == pytest.approx(scores, rel=1e-5)


def test_settings_come_back_and_exclude_what_does_not_go_with_them(folder):
    for extension in EXTENSIONS.values():
        assert extension_from_dict(extension_to_dict(extension)) == extension
    with pytest.raises(ValueError, match="bottleneck and frozen each say what is left of the enco"):
        config(folder, frozen=True, extensions=(Bottleneck(),))
    with pytest.raises(ValueError, match="prefix and pal each say what is left of the encoder to"):
        config(folder, extensions=(Prefix(), Pal()))
    with pytest.raises(ValueError, match="shard does not go with pal, whose projections"):
        config(folder, shard=True, extensions=(Pal(),))
    with pytest.raises(ValueError, match="minbert pretrain makes an ordinary backbone, which has"):
        pretrain_config(folder, extensions=(Pal(),))
    words = ["train", "--tasks", "sst", "--bottleneck.kind", "houlsby", "--bottleneck.no-per-task"]
    (extension,) = parse(words).chosen()
    assert extension == Bottleneck(kind="houlsby", per_task=False)
