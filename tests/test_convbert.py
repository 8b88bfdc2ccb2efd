"""ConvBERT against transformers' own: padded as the reference is, packed as it is alone."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from comparing import assert_same, assert_same_gradients, encode, gradients, in_mode, random_batch
from helpers import config, write_backbone, write_data
from safetensors.torch import load_file, save_file
from shared_fixtures import VOCABULARY, fill
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    ConvBertForMaskedLM,
    ConvBertForSequenceClassification,
)
from transformers import ConvBertConfig as ReferenceConfig

from data.batching import Batch
from data.tasks import get_task
from minbert import (
    Backbone,
    ConvBert,
    ConvBertConfig,
    Padded,
    load_backbone,
    save_pretrained,
)
from minbert.loading import hub_names
from minbert.quick import route_of
from multitask import MultitaskModel, train
from optim import parameter_groups

pytestmark = pytest.mark.usefixtures("no_figure")

WEIGHTS = "model.safetensors"
COMMON = {
    "vocab_size": len(VOCABULARY),
    "num_hidden_layers": 2,
    "max_position_embeddings": 70,
    "type_vocab_size": 3,
    "pad_token_id": 7,
    "layer_norm_eps": 1e-3,
    "initializer_range": 0.05,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.3,
}


def sizes(hidden, heads, ratio, kernel, groups, embedding, inner):
    return {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "head_ratio": ratio,
        "conv_kernel_size": kernel,
        "num_groups": groups,
        "embedding_size": embedding,
        "intermediate_size": inner,
    }


SHAPES = {
    "like base": sizes(24, 4, 2, 9, 1, 24, 52),
    "ratio 1, odd heads": sizes(42, 3, 1, 3, 1, 10, 31),
    "ratio 4, groups": sizes(48, 8, 4, 9, 2, 20, 36),
    "one head, three groups": sizes(30, 3, 5, 5, 3, 30, 45),
    "kernel 1": sizes(12, 5, 2, 1, 1, 11, 13),
}
LENGTHS = [1, 40, 70, 5, 33, 9]  # shorter than a kernel, up to the last position; two groups
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
MODES = pytest.mark.parametrize("mode", ["eval", "train"])


@dataclass(frozen=True)
class Twins:
    ours: Backbone
    reference: ConvBertForMaskedLM


def write_convbert(folder, cls=ConvBertForMaskedLM, **changes):
    """A small random ConvBERT as transformers saves it, with a vocabulary; returns the model."""
    sizes = ReferenceConfig(**{**COMMON, **SHAPES["like base"], **changes})
    model = cls(sizes).eval()
    fill(model)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text(
        "".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8"
    )
    return model


@pytest.fixture(scope="module", params=SHAPES)
def twins(request, tmp_path_factory):
    """Both in float64."""
    folder = tmp_path_factory.mktemp("convbert")
    reference = write_convbert(folder, **SHAPES[request.param]).double()
    ours = load_backbone(folder, mlm_head=True)
    ours.encoder.double()
    ours.mlm_head.double()
    return Twins(ours, reference)


@pytest.fixture
def folder(tmp_path):
    """With grouped linear maps and an embedding projection."""
    write_convbert(tmp_path / "convbert", **SHAPES["ratio 4, groups"])
    return tmp_path / "convbert"


def run_reference(reference, batch):
    """All that the reference computes, at every token."""
    ids, mask, types = batch
    output = reference(ids, mask, types, output_hidden_states=True)
    states = {f"hidden state {n}": x.flatten(0, 1) for n, x in enumerate(output.hidden_states)}
    return {**states, "logits": output.logits.flatten(0, 1)}


def run_reference_alone(reference, batch):
    """The same of each sequence in a batch of its own, without padding."""
    found = []
    for ids, mask, types in zip(*batch):
        real = mask.bool()
        found.append(run_reference(reference, [x[real][None] for x in (ids, mask, types)]))
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}


def run_ours(ours, batch, layout):
    """All that we compute: at every token of a padded batch, or at the real ones."""
    wanted = {"output_hidden_states": True}
    if layout == "padded":
        output = ours.encoder(*batch, **wanted)
    elif layout == "packed":
        output, _ = encode(ours.encoder, batch, "packed", **wanted)
    else:
        attentions = [layer.attention for layer in ours.encoder.layers]
        for attention in attentions:
            attention.batch_invariant = True  # as a config of it sets it
        output = ours.encoder(*batch, **wanted)
        for attention in attentions:
            attention.batch_invariant = False
    assert output.pooler_output is None
    states = output.hidden_states
    if layout == "batch_invariant":
        states = [x[batch[1].bool()] for x in states]
    elif layout == "padded":
        states = [x.flatten(0, 1) for x in states]
    logits = ours.mlm_head(states[-1])
    return {**{f"hidden state {n}": x for n, x in enumerate(states)}, "logits": logits}


def gradients_of_ours(ours, outcome):
    modules = nn.ModuleDict({"encoder": ours.encoder, "mlm_head": ours.mlm_head})
    names = hub_names(modules)
    return {names[name]: g for name, g in gradients(modules, outcome).items()}


def gradients_of_reference(reference, outcome):
    return {k.removeprefix("convbert."): g for k, g in gradients(reference, outcome).items()}


# Against transformers


@pytest.mark.parametrize("layout", ["padded", "packed", "batch_invariant"])
@MODES
def test_outputs_and_gradients_equal_transformers(twins, layout, mode):
    batch = random_batch(LENGTHS, twins.ours.encoder.config)
    reference = run_reference if layout == "padded" else run_reference_alone
    with in_mode(mode, twins.ours.encoder, twins.reference, dropout=0.0):
        ours, want = run_ours(twins.ours, batch, layout), reference(twins.reference, batch)
    assert_same(ours, want, 1e-10)
    assert_same_gradients(
        gradients_of_ours(twins.ours, ours), gradients_of_reference(twins.reference, want), 1e-10
    )


@pytest.mark.slow
def test_float32_equals_transformers(tmp_path):
    """A published size, with its initial values, in the precision in which it is used."""
    torch.manual_seed(0)
    small = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
    config = ReferenceConfig(embedding_size=128, num_hidden_layers=2, pad_token_id=0, **small)
    reference = ConvBertForMaskedLM(config).eval()
    reference.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text(
        "".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8"
    )
    ours = load_backbone(tmp_path, mlm_head=True)
    for name, value in {**ConvBertConfig.SIZES["small"], "num_layers": 2}.items():
        assert getattr(ours.encoder.config, name) == value
    batch = random_batch([80, 1, 30], ours.encoder.config)
    for layout, run in (("padded", run_reference), ("packed", run_reference_alone)):
        got, want = run_ours(ours, batch, layout), run(reference, batch)
        assert_same(got, want, 1e-5)
        assert_same_gradients(
            gradients_of_ours(ours, got), gradients_of_reference(reference, want), 1e-5
        )


def test_padding_matters_to_the_reference_and_not_to_packed_batches(twins):
    """Without this the tests above would not tell the two ways of padding apart."""
    config = twins.ours.encoder.config
    batch = random_batch(LENGTHS, config)
    real = batch[1].flatten().bool()
    with torch.no_grad(), in_mode("eval", twins.reference):
        padded = run_reference(twins.reference, batch)["logits"][real]
        alone = run_reference_alone(twins.reference, batch)["logits"]
    off = (padded - alone).abs().amax(dim=1)  # (T,)
    if config.conv_kernel_size == 1:
        assert off.max() < 1e-10
    else:
        assert off.max() > 0.1
    ends = torch.tensor(LENGTHS).cumsum(0)
    reach = config.num_layers * 2 * (config.conv_kernel_size // 2)
    inside = torch.arange(ends[2] - LENGTHS[2], ends[2])  # the longest, which has no padding
    assert off[inside].max() < 1e-10 and reach < 40


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_attention_maps_equal_transformers(twins, layout):
    batch = ids, mask, types = random_batch(LENGTHS, twins.ours.encoder.config)
    if layout == "packed":  # in which the reference must see no padding: one sequence alone
        batch = ids, mask, types = [x[1:2, : LENGTHS[1]] for x in batch]
    with torch.no_grad(), in_mode("eval", twins.ours.encoder, twins.reference):
        ours, _ = encode(twins.ours.encoder, batch, layout, output_attentions=True)
        want = twins.reference(ids, mask, types, output_attentions=True).attentions
    assert ours.attentions[0].size(1) == twins.ours.encoder.config.mixed_heads
    assert_same(dict(enumerate(ours.attentions)), dict(enumerate(want)), 1e-10)


def test_train_mode_drops_what_transformers_drops(twins):
    """Both draw from torch's generator, so the same seed gives the same masks in the same order."""
    batch = random_batch(LENGTHS, twins.ours.encoder.config)
    outcomes = []
    training = in_mode("train", twins.ours.encoder, twins.reference)
    with torch.random.fork_rng(), training, route_of("plain"):
        for run, model in ((run_ours, twins.ours), (run_reference, twins.reference)):
            torch.manual_seed(0)
            outcomes.append(run(model, batch, *["padded"] * (run is run_ours)))
        torch.manual_seed(1)
        other = run_ours(twins.ours, batch, "padded")
    ours, want = outcomes
    assert_same(ours, want, 1e-10)
    assert_same_gradients(
        gradients_of_ours(twins.ours, ours), gradients_of_reference(twins.reference, want), 1e-10
    )
    assert not torch.allclose(other["logits"], want["logits"]), "nothing was dropped"


@MODES
def test_the_heads_are_the_reference_classifier(tmp_path, mode):
    """ConvBertForSequenceClassification is pooling cls and heads as wide as the encoder."""
    reference = write_convbert(tmp_path, ConvBertForSequenceClassification, num_labels=5).double()
    backbone = load_backbone(tmp_path)
    assert [name.split(":")[0] for name in backbone.dropped] == [
        "classifier.dense.bias", "classifier.dense.weight",
        "classifier.out_proj.bias", "classifier.out_proj.weight",
    ]  # fmt: skip
    hidden, rate = backbone.encoder.config.hidden_size, backbone.encoder.config.hidden_dropout
    model = MultitaskModel(
        backbone.encoder, [get_task("sst")], pooling="cls", head_size=hidden, head_dropout=rate
    ).double()
    ours_to_theirs = {"shared.single": "dense", "outputs.sst": "out_proj"}
    for ours, theirs in ours_to_theirs.items():
        source = reference.classifier.get_submodule(theirs)
        model.heads.get_submodule(ours).load_state_dict(source.state_dict())

    ids, mask, types = random_batch([12, 30, 3], backbone.encoder.config)
    batch = Batch(
        ids=("0", "1", "2"), labels=None, input_ids=ids, token_type_ids=types, layout=Padded(mask)
    )
    outcomes = []
    with torch.random.fork_rng(), in_mode(mode, model, reference), route_of("plain"):
        for run in (lambda: model(batch, "sst"), lambda: reference(ids, mask, types).logits):
            torch.manual_seed(0)
            outcomes.append({"logits": run()})
    ours, want = outcomes
    assert_same(ours, want, 1e-10)
    got, want = gradients(model.heads, ours), gradients(reference.classifier, want)
    assert_same_gradients(
        {f"{ours_to_theirs[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": g
         for name, g in got.items()},
        want, 1e-10,
    )  # fmt: skip


# Checkpoints


def legacy(tensors):
    """The names of old files: gamma and beta, and the positions stored."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in tensors.items():
        end = ".".join(name.split(".")[-2:])
        renamed[name.removesuffix(end) + old.get(end, end)] = tensor
    return {**renamed, "convbert.embeddings.position_ids": torch.arange(70).unsqueeze(0)}


def without_prefix(tensors):
    return {name.removeprefix("convbert."): tensor for name, tensor in tensors.items()}


def with_decoder(tensors):
    word = tensors["convbert.embeddings.word_embeddings.weight"]
    return {**tensors, "generator_lm_head.weight": word.clone()}


@pytest.mark.parametrize("change", [legacy, without_prefix, with_decoder])
def test_other_spellings_load_the_same(folder, change):
    def parameters():
        backbone = load_backbone(folder, mlm_head=True)
        modules = nn.ModuleDict({"encoder": backbone.encoder, "mlm_head": backbone.mlm_head})
        return {name: p.detach() for name, p in modules.named_parameters()}

    want = parameters()
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})
    assert_same(parameters(), want, 0)
    without = load_backbone(folder).dropped
    assert len(without) >= 5 and all("generator" in x or "position_ids" in x for x in without)


def test_wrong_checkpoints_are_refused_with_names(folder):
    tensors = load_file(folder / WEIGHTS)
    del tensors["convbert.embeddings_project.bias"]
    del tensors["convbert.encoder.layer.1.attention.self.key_conv_attn_layer.bias"]
    tensors["convbert.encoder.layer.0.crossattention.x"] = torch.zeros(1)
    name = "convbert.encoder.layer.0.intermediate.dense.weight"
    tensors[name] = tensors[name].transpose(1, 2).contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="weights of the convbert") as error:
        load_backbone(folder)
    assert str(error.value).split("config.json. ")[1] == (
        "missing: embeddings_project.bias, "
        "encoder.layer.1.attention.self.key_conv_attn_layer.bias; "
        "unexpected: encoder.layer.0.crossattention.x; "
        "misshapen: encoder.layer.0.intermediate.dense.weight (2, 18, 24) (not (2, 24, 18))"
    )
    tensors = with_decoder(tensors)
    tensors["generator_lm_head.weight"][3] += 1
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"not tied: generator_lm_head.weight \(differs"):
        load_backbone(folder, mlm_head=True)


@pytest.mark.parametrize("with_head", [False, True], ids=["encoder", "with head"])
@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_loads_what_is_saved(tmp_path, shape, with_head):
    write_convbert(tmp_path / "theirs", **SHAPES[shape])
    ours = load_backbone(tmp_path / "theirs", mlm_head=True)
    with torch.no_grad():
        for parameter in ours.encoder.parameters():
            parameter += 0.01
    head = ours.mlm_head if with_head else None
    ours.encoder.config = replace(ours.encoder.config, batch_invariant=True)
    save_pretrained(tmp_path / "ours", ours.encoder, ours.tokenizer, mlm_head=head)
    cls = AutoModelForMaskedLM if with_head else AutoModel
    model, report = cls.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"))
    assert type(model).__name__ == ConvBertConfig.HUB.classes[with_head]
    ids, mask, types = random_batch([40, 40], ours.encoder.config)
    with torch.no_grad():
        got = ours.encoder(ids, mask, types).last_hidden_state
        want = model(ids, mask, types)
        if with_head:
            assert_same({"logits": ours.mlm_head(got)}, {"logits": want.logits}, 1e-4)
        else:
            assert_same({"last": got}, {"last": want.last_hidden_state}, 1e-5)

    again = load_backbone(tmp_path / "ours", mlm_head=with_head)
    assert again.encoder.config == ours.encoder.config and again.encoder.config.batch_invariant
    assert_same(again.encoder.state_dict(), ours.encoder.state_dict(), 0)
    assert again.dropped == again.fresh == ()


def test_a_config_without_pad_token_has_the_vocabularys(folder):
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    for written, expected in ((settings.pop("pad_token_id"), 7), (None, None)):
        path.write_text(json.dumps({**settings, "pad_token_id": written}), encoding="utf-8")
        word = load_backbone(folder).encoder.embeddings.word
        assert word.padding_idx == expected
    path.write_text(json.dumps(settings), encoding="utf-8")
    assert load_backbone(folder).encoder.embeddings.word.padding_idx == 0


# A new encoder


def test_default_config_is_transformers_default_but_for_the_padding():
    ours, reference = ConvBertConfig().to_hub(), ReferenceConfig().to_dict()
    shared = ours.keys() & reference.keys() - {"pad_token_id"}
    assert len(shared) >= 16
    assert {k: ours[k] for k in shared} == {k: reference[k] for k in shared}
    assert ours["pad_token_id"] == 0


@pytest.mark.parametrize("size, millions", [("base", 106), ("medium-small", 17), ("small", 14)])
def test_sizes_have_about_the_published_number_of_parameters(size, millions):
    """Table 3 of the paper, to a million."""
    with torch.device("meta"):
        encoder = ConvBert(ConvBertConfig(**ConvBertConfig.SIZES[size]))
    count = sum(p.numel() for p in encoder.parameters())
    assert abs(count / 1e6 - millions) < 1


def test_initial_values():
    config = ConvBertConfig(
        vocab_size=500, hidden_size=96, num_layers=1, num_groups=2, embedding_size=80,
        initializer_range=0.07,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ConvBert(config)
        head = encoder.make_mlm_head()
    matrices = 0
    model = nn.ModuleDict({"encoder": encoder, "head": head})
    for name, p in model.named_parameters():  # the embeddings once, which the head shares
        if name.endswith("norm.weight"):
            assert (p == 1).all(), name
        elif name.endswith("bias"):
            assert (p == 0).all(), name
        elif "token_type" not in name:
            matrices += 1
            assert p.std().item() == pytest.approx(0.07, rel=0.05), name
            assert p.mean().item() == pytest.approx(0, abs=0.008), name
    assert matrices == 14
    assert (encoder.embeddings.word.weight[0] == 0).all()
    assert head.embeddings is encoder.embeddings


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"hidden_size": 30, "num_heads": 4}, r"hidden_size 30 is not divisible by 2 x 2: half"),
        ({"conv_kernel_size": 4}, "conv_kernel_size must be odd, it is 4"),
        ({"num_groups": 5}, "hidden_size 768 is not divisible by num_groups 5; choose"),
        ({"num_groups": 3, "intermediate_size": 31}, "intermediate_size 31 is not divisible by"),
        ({"head_ratio": 0}, "head_ratio must be at least 1, it is 0"),
        ({"attention_dropout": 1.0}, r"attention_dropout must be in \[0, 1\), it is 1.0"),
    ],
)
def test_a_wrong_config_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        ConvBertConfig(**sizes)


# Training, with nothing but the backbone's folder changed


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with data, and a ConvBERT as the backbone."""
    folder = tmp_path_factory.mktemp("tiny")
    write_backbone(folder / "backbone", encoder=ConvBert, embedding_size=12, num_groups=2)
    write_data(folder / "data")
    return folder


def test_it_has_no_pooler(data, tmp_path):
    """Which is said before a run folder is made."""
    settings = config(data, pooling="pooler", out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"backbone '.*' has no pooler; choose pooling cls, mean"):
        train(settings, progress=False)
    assert not settings.out.exists()
    model = MultitaskModel(load_backbone(data / "backbone").encoder, [get_task("sst")])
    batch = Batch(ids=("0",), labels=None, input_ids=torch.tensor([[2, 7, 3]]),
                  layout=Padded(torch.ones(1, 3, dtype=torch.long)))  # fmt: skip
    with pytest.raises(ValueError, match="this encoder has no pooler; choose pooling cls, mean"):
        model(batch, "sst")


def test_only_the_separable_convolutions_column_is_a_bias_of_two_dimensions(data):
    """AdamW decays matrices and no biases: the odd shape must not make a matrix of it."""
    model = ConvBert(load_backbone(data / "backbone").encoder.config)
    groups = parameter_groups(model.named_parameters(), lr=1.0, weight_decay=0.1)
    decayed = {name for group in groups if group["weight_decay"] for name in group["names"]}
    columns = {n for n, p in model.named_parameters() if p.ndim > 1 and n.endswith("bias")}
    assert len(columns) == 2 and not columns & decayed
    assert decayed == {n for n, p in model.named_parameters() if p.ndim > 1} - columns
