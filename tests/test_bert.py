"""BERT against transformers' own, and its dropout against a forward pass written out in float64."""

import pytest
import torch
import transformers
from comparing import (
    KnownDropout,
    assert_same,
    assert_same_gradients,
    encode,
    gradients,
    in_mode,
    padded,
    random_batch,
)
from torch import nn
from torch.nn import functional as F

from examples.bert_written_out import bert
from minbert import Bert, BertConfig, Packed, load_backbone
from minbert.loading import hub_names
from minbert.quick import route_of

TEXTS = [
    "A gentle film about two brothers who open a bakery.",
    "No.",
    "The plot, if there is one, was lost somewhere between the third car chase and the wedding!",
    "Wie schön: 東京 in the rain, at 5:30 a.m.",
]
PAIRS = [
    ("How do I learn to cook?", "What is the best way to begin cooking?"),
    ("A man plays the guitar.", "Two dogs run along a beach, and one of them carries a red ball."),
]

LAYOUTS = pytest.mark.parametrize("layout", ["padded", "packed"])
MODES = pytest.mark.parametrize("mode", ["eval", "train"])
MODELS = pytest.mark.parametrize("twins", ["minilm", "odd"], indirect=True)
SCORED = 12
"""Tokens whose scores over the vocabulary are compared."""
LENGTHS = [1, 40, 130, 5, 33, 70, 32]  # up to `odd`'s last position, in four groups


@pytest.fixture
def twins(request):
    return request.getfixturevalue(request.param)


def batch_for(twins):
    """Real sentences and pairs for MiniLM, random tokens for the other."""
    tokenizer, config = twins.ours.tokenizer, twins.ours.encoder.config
    if len(tokenizer) < 1000:
        return random_batch(LENGTHS, config)
    single, pair = tokenizer.encode(TEXTS), tokenizer.encode(*zip(*PAIRS))
    return padded(single.input_ids + pair.input_ids, single.token_type_ids + pair.token_type_ids)


def run_ours(ours, batch, layout):
    """All that the model computes, at real tokens, by name."""
    output, pick = encode(ours.encoder, batch, layout, output_hidden_states=True)
    states = {f"hidden state {n}": pick(x) for n, x in enumerate(output.hidden_states)}
    assert output.hidden_states[-1] is output.last_hidden_state
    logits = ours.mlm_head(pick(output.last_hidden_state)[:SCORED])
    return {**states, "pooled": output.pooler_output, "logits": logits}


def run_reference(reference, batch):
    ids, mask, types = batch
    output = reference.bert(ids, mask, types, output_hidden_states=True)
    real = mask.bool()
    states = {f"hidden state {n}": x[real] for n, x in enumerate(output.hidden_states)}
    logits = reference.cls.predictions(output.last_hidden_state[real][:SCORED])
    return {**states, "pooled": output.pooler_output, "logits": logits}


def gradients_of_ours(ours, outcome):
    modules = nn.ModuleDict({"encoder": ours.encoder, "mlm_head": ours.mlm_head})
    names = hub_names(modules)
    return {names[name]: g for name, g in gradients(modules, outcome).items()}


def gradients_of_reference(reference, outcome):
    found = gradients(reference, outcome)
    unused = {name for name, g in found.items() if g is None}
    assert unused == {"cls.seq_relationship.weight", "cls.seq_relationship.bias"}
    return {k.removeprefix("bert."): g for k, g in found.items() if g is not None}


def tolerance(twins):
    """What rounding may do: float32 for MiniLM, float64 for `odd`."""
    dtype = next(twins.reference.parameters()).dtype
    return {torch.float32: 1e-5, torch.float64: 1e-10}[dtype]


# Against transformers


@MODELS
@LAYOUTS
@MODES
def test_outputs_equal_transformers(twins, layout, mode):
    batch = batch_for(twins)
    with torch.no_grad(), in_mode(mode, twins.ours.encoder, twins.reference, dropout=0.0):
        ours, want = run_ours(twins.ours, batch, layout), run_reference(twins.reference, batch)
    assert_same(ours, want, tolerance(twins))


@pytest.mark.parametrize(
    "twins", [pytest.param("minilm", marks=pytest.mark.slow), "odd"], indirect=True
)
@LAYOUTS
@MODES
def test_gradients_equal_transformers(twins, layout, mode):
    batch = batch_for(twins)
    with in_mode(mode, twins.ours.encoder, twins.reference, dropout=0.0):
        ours = gradients_of_ours(twins.ours, run_ours(twins.ours, batch, layout))
        want = gradients_of_reference(twins.reference, run_reference(twins.reference, batch))
    assert_same_gradients(ours, want, tolerance(twins))


@MODELS
@LAYOUTS
def test_attention_maps_equal_transformers(twins, layout):
    ids, mask, types = batch = batch_for(twins)
    with torch.no_grad(), in_mode("eval", twins.ours.encoder):
        ours, _ = encode(twins.ours.encoder, batch, layout, output_attentions=True)
        want = twins.reference.bert(ids, mask, types, output_attentions=True).attentions
    real = mask.bool()  # maps are (B, N, S, S); at real queries they are (T, N, S)
    assert_same(
        {f"layer {n}": x.transpose(1, 2)[real] for n, x in enumerate(ours.attentions)},
        {f"layer {n}": x.transpose(1, 2)[real] for n, x in enumerate(want)},
        tolerance(twins),
    )


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [130], [130, 1]], ids=str)
@LAYOUTS
def test_shortest_and_longest_inputs_equal_transformers(odd, lengths, layout):
    batch = random_batch(lengths, odd.ours.encoder.config)
    with torch.no_grad(), in_mode("eval", odd.ours.encoder):
        ours, want = run_ours(odd.ours, batch, layout), run_reference(odd.reference, batch)
    assert_same(ours, want, tolerance(odd))


def test_minilm_equals_transformers_up_to_its_last_position(minilm):
    batch = random_batch([512], minilm.ours.encoder.config)
    with torch.no_grad(), in_mode("eval", minilm.ours.encoder):
        ours, want = run_ours(minilm.ours, batch, "packed"), run_reference(minilm.reference, batch)
    assert_same(ours, want, 1e-5)


def test_defaults_are_one_segment_and_no_padding(odd):
    ids, mask, types = random_batch([9, 9], odd.ours.encoder.config)
    with torch.no_grad(), in_mode("eval", odd.ours.encoder):
        ours = odd.ours.encoder(ids)
        want = odd.reference.bert(ids, torch.ones_like(mask), torch.zeros_like(types))
    assert ours.hidden_states is None and ours.attentions is None
    assert_same(
        {"last": ours.last_hidden_state, "pooled": ours.pooler_output},
        {"last": want.last_hidden_state, "pooled": want.pooler_output},
        tolerance(odd),
    )


@pytest.mark.slow
@LAYOUTS
def test_mean_of_minilm_equals_sentence_transformers(minilm_folder, layout):
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(minilm_folder), device="cpu")
    backbone = load_backbone("minilm")
    encodings = backbone.tokenizer.encode(TEXTS)
    batch = padded(encodings.input_ids, encodings.token_type_ids)
    with torch.no_grad(), in_mode("eval", backbone.encoder):
        output, _ = encode(backbone.encoder, batch, layout)
        embeddings = F.normalize(output.layout.mean(output.last_hidden_state), dim=-1)
    want = torch.from_numpy(reference.encode(TEXTS))
    assert_same({"embeddings": embeddings}, {"embeddings": want}, 1e-5)


def test_the_decoder_is_the_word_embedding(odd):
    assert odd.ours.mlm_head.embeddings is odd.ours.encoder.embeddings
    assert odd.ours.encoder.config.vocab_size == odd.ours.mlm_head.bias.numel() == 67


# Dropout


def test_train_mode_drops_what_transformers_drops(odd):
    """Both draw from torch's generator, so the same seed gives the same masks in the same order.

    On the plain route, for the quick ones draw other masks.
    """
    batch = random_batch(LENGTHS, odd.ours.encoder.config)
    outcomes = []
    training = in_mode("train", odd.ours.encoder, odd.reference)
    with torch.random.fork_rng(), training, route_of("plain"):
        torch.manual_seed(0)
        outcomes.append(run_ours(odd.ours, batch, "padded"))
        torch.manual_seed(0)
        outcomes.append(run_reference(odd.reference, batch))
        torch.manual_seed(1)
        other = run_ours(odd.ours, batch, "padded")
    ours, want = outcomes
    assert_same(ours, want, tolerance(odd))
    both = gradients_of_ours(odd.ours, ours), gradients_of_reference(odd.reference, want)
    assert_same_gradients(*both, tolerance(odd))
    assert not torch.allclose(other["pooled"], want["pooled"]), "nothing was dropped"


@LAYOUTS
def test_dropout_stands_where_the_paper_has_it(tmp_path, write_bert, layout):
    reference = write_bert(tmp_path).double()
    encoder = load_backbone(tmp_path).encoder.double().train()
    encoder.embeddings.dropout = KnownDropout("embeddings")
    for n, layer in enumerate(encoder.layers):
        layer.attention.dropout = KnownDropout(f"{n} probabilities")
        layer.attention_norm.dropout = KnownDropout(f"{n} attention")
        layer.feed_forward_norm.dropout = KnownDropout(f"{n} output")
    assert not any(isinstance(m, nn.Dropout) for m in encoder.modules()), "more than in the paper"

    batch = random_batch([1, 36, 7, 40, 20], encoder.config)  # two groups
    output, pick = encode(encoder, batch, layout)
    calls = {m.name: m.calls for m in encoder.modules() if isinstance(m, KnownDropout)}
    groups = 2 if layout == "packed" else 1
    assert calls == {name: groups if "probabilities" in name else 1 for name in calls}

    w, settings = dict(reference.bert.named_parameters()), reference.config.to_dict()
    want = bert(w, settings, *batch, dropout=lambda x, place: KnownDropout(place)(x))
    ours = {"last": pick(output.last_hidden_state)}
    want = {"last": want[batch[1].bool()]}
    assert_same(ours, want, 1e-10)
    names = hub_names(nn.ModuleDict({"encoder": encoder}))
    ours = {names[f"encoder.{k}"]: g for k, g in gradients(encoder, ours).items()}
    want = gradients(reference.bert, want)
    word = "embeddings.word_embeddings.weight"
    want[word][encoder.config.pad_token_id] = 0  # nn.Embedding learns nothing for padding
    pooler = {"pooler.dense.weight", "pooler.dense.bias"}
    assert {name for name, g in ours.items() if g is None} == pooler
    assert_same_gradients(
        {k: g for k, g in ours.items() if g is not None},
        {k: g for k, g in want.items() if g is not None},
        1e-10,
    )


def dropouts_called(encoder, batch, layout):
    """(name, rate, whether it changed its input) of each dropout, in the order of the calls."""
    calls = []
    handles = [
        module.register_forward_hook(
            lambda m, args, out, name=name: calls.append((name, m.p, not torch.equal(*args, out)))
        )
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Dropout)
    ]
    encode(encoder, batch, layout)
    for handle in handles:
        handle.remove()
    return calls


@MODES
def test_every_dropout_works_in_train_mode_only_at_the_configured_rate(odd, mode):
    encoder = odd.ours.encoder
    batch = random_batch([20, 30], encoder.config)
    want = [("embeddings.dropout", 0.2)]
    for n in range(3):
        want.append((f"layers.{n}.attention.dropout", 0.3))
        want.append((f"layers.{n}.attention_norm.dropout", 0.2))
        want.append((f"layers.{n}.feed_forward_norm.dropout", 0.2))
    with torch.random.fork_rng(), in_mode(mode, encoder):
        torch.manual_seed(0)
        for layout in ("padded", "packed"):
            calls = dropouts_called(encoder, batch, layout)
            assert calls == [(name, rate, mode == "train") for name, rate in want], layout


# A new encoder, and what it refuses


def test_initial_values():
    config = BertConfig(vocab_size=500, hidden_size=96, num_layers=1, initializer_range=0.07)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Bert(config)
        head = encoder.make_mlm_head()
    seen = 0
    model = nn.ModuleDict({"encoder": encoder, "head": head})
    for name, module in model.named_modules():  # the embeddings once, which the head shares
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name
        if isinstance(module, nn.Linear):
            assert (module.bias == 0).all(), name
        if isinstance(module, nn.Linear | nn.Embedding) and module.weight.shape[0] > 2:
            seen += 1
            assert module.weight.std().item() == pytest.approx(0.07, rel=0.03), name
            assert module.weight.mean().item() == pytest.approx(0, abs=0.003), name
    assert seen == 10
    assert (head.bias == 0).all()
    assert (encoder.embeddings.word.weight[config.pad_token_id] == 0).all()


def test_depths_hold_every_parameter_once_from_input_to_output(odd):
    names = [name for name, _ in odd.ours.encoder.depths()]
    assert names == ["embeddings", "layer 1", "layer 2", "layer 3", "pooler"]
    found = [id(p) for _, module in odd.ours.encoder.depths() for p in module.parameters()]
    assert sorted(found) == sorted(id(p) for p in odd.ours.encoder.parameters())


def test_default_config_is_transformers_default():
    ours, reference = BertConfig().to_hub(), transformers.BertConfig().to_dict()
    shared = ours.keys() & reference.keys()
    assert len(shared) >= 12
    assert {k: ours[k] for k in shared} == {k: reference[k] for k in shared}


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"hidden_size": 100}, "hidden_size 100 is not divisible by num_heads 12; choose"),
        ({"num_layers": 0}, "num_layers must be at least 1, it is 0"),
        ({"attention_dropout": 1.0}, r"attention_dropout must be in \[0, 1\), it is 1.0"),
        ({"hidden_dropout": -0.1}, r"hidden_dropout must be in \[0, 1\), it is -0.1"),
        ({"type_vocab_size": 0}, "type_vocab_size must be at least 1, it is 0"),
        ({"pad_token_id": 30522}, "pad_token_id 30522 is no token of a vocabulary of 30522; take"),
    ],
)
def test_a_wrong_config_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        BertConfig(**sizes)


IDS = torch.ones(2, 5, dtype=torch.long)
LONG = torch.ones(1, 131, dtype=torch.long)


@pytest.mark.parametrize(
    "call, message",
    [
        ((IDS, IDS[:, :4]), r"input_ids have shape \(2, 5\).*is for \(2, 4\); they must be equal"),
        ((IDS, IDS, IDS[:1]), r"token_type_ids have shape \(1, 5\).*is for \(2, 5\)"),
        ((IDS[0], None, None, Packed([2, 2])), r"input_ids have shape \(5,\).*is for \(4,\)"),
        ((IDS, None, None, Packed([5, 5])), r"input_ids have shape \(2, 5\).*is for \(10,\)"),
        ((IDS[0], IDS[:1], None, Packed([5])), "attention_mask and layout say the same thing"),
        ((IDS[0],), r"attention_mask must have shape \(batch, length\), not \(5,\)"),
        ((LONG,), "has 131 tokens, and this encoder has positions for 130; truncate"),
        ((LONG[0], None, None, Packed([131])), "has 131 tokens"),
        (
            (40_000 * IDS,),
            "input_ids are from 40000 to 40000, token_type_ids to 0; this encoder has",
        ),
        ((-IDS,), r"input_ids are from -1 to -1.*counted from 0; encode texts with its own tokeni"),
        ((IDS, None, 9 * IDS), r"token_type_ids to 9; this encoder has \d+ tokens and \d segments"),
    ],
)
def test_a_wrong_call_is_refused(odd, call, message):
    *arguments, layout = call if len(call) == 4 else (*call, None)
    with pytest.raises(ValueError, match=message):
        odd.ours.encoder(*arguments, layout=layout)
