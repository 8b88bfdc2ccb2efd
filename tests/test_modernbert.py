"""ModernBERT against transformers' own: outputs, gradients, files, training."""

import copy
import json
import shutil

import pytest
import torch
import transformers
from comparing import KnownDropout, assert_same, assert_same_gradients, gradients, in_mode
from safetensors.torch import load_file
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer
from transformers import ModernBertForMaskedLM as ReferenceForMaskedLM
from transformers import ModernBertForSequenceClassification as ReferenceClassifier

from minbert import Packed, Tokenizer, load_backbone, save_pretrained
from minbert.encoders.modernbert import ModernBert
from minbert.encoders.modernbert_config import ModernBertConfig
from minbert.loading import hub_names
from minbert.quick import route_of

SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
TEXTS = ["Hello world, naïve café", "", " two  spaces", "東京 [MASK] a", "the end of the day\n"]
PAIRS = ["one", "of the world", "", "ends", "a much longer second text than the first one was"]
LENGTHS = [1, 40, 130, 5, 33, 70, 32]
VOCABULARY = 307
SHAPES = {
    "odd": {
        "hidden_size": 30, "num_hidden_layers": 5, "num_attention_heads": 5,
        "intermediate_size": 22, "local_attention": 8, "norm_eps": 1e-3,
        "classifier_dropout": 0.15,
    },
    "odd window, mean": {
        "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2,
        "intermediate_size": 50, "local_attention": 5, "global_attn_every_n_layers": 2,
        "global_rope_theta": 500.0, "local_rope_theta": 70.0, "classifier_pooling": "mean",
    },
    "one layer": {
        "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 1,
        "global_attn_every_n_layers": 1,
    },
    "window longer than the texts": {
        "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 1,
        "intermediate_size": 20, "local_attention": 300,
    },
}  # fmt: skip
EVERY_SHAPE = pytest.mark.parametrize("twins", SHAPES, indirect=True)
LAYOUTS = pytest.mark.parametrize("layout", ["padded", "packed"])
DROPOUTS = ("embedding_dropout", "attention_dropout", "mlp_dropout", "classifier_dropout")


# Checkpoints and tokenizers as transformers writes them


def write_tokenizer(folder, texts=(), vocab_size=VOCABULARY):
    """A byte-level BPE with ModernBERT's special tokens, as tokenizer.json alone."""
    fast = FastTokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator([*texts, *TEXTS, *PAIRS] * 3, trainer)
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    fast.save(str(folder / "tokenizer.json"))
    names = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 130,
        **dict(zip(names, SPECIAL)),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_reference(folder, reference=ReferenceForMaskedLM, **sizes):
    """A small random ModernBERT as transformers saves it, with a tokenizer; returns the model."""
    write_tokenizer(folder)
    ids = {"pad_token_id": 3, "cls_token_id": 1, "bos_token_id": 1}
    ids |= {"sep_token_id": 2, "eos_token_id": 2}
    sizes = {"vocab_size": 320, "max_position_embeddings": 130, **ids, **sizes}
    model = reference(transformers.ModernBertConfig(**sizes, attn_implementation="eager")).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.2 * noise + ("norm" in name)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def twins(request, tmp_path_factory):
    """One checkpoint, loaded by minbert with its masked-language-model head and by transformers."""
    folder = tmp_path_factory.mktemp("modernbert")
    reference = write_reference(folder, **SHAPES[request.param])
    return load_backbone(folder, mlm_head=True), reference


def random_batch(lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 320, (len(lengths), max(lengths)), generator=generator)
    return ids, torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def encode(encoder, batch, layout, **wanted):
    """Call the encoder; returns its output and what picks the real tokens of a result, (T, ...)."""
    ids, real = batch
    if layout == "padded":
        return encoder(ids, real, **wanted), lambda x: x[real]
    return encoder(ids[real], layout=Packed(real.sum(1).tolist()), **wanted), lambda x: x


def run_ours(ours, batch, layout):
    """All that the model computes, at real tokens, by name."""
    output, pick = encode(ours.encoder, batch, layout, output_hidden_states=True)
    assert output.hidden_states[-1] is output.last_hidden_state
    states = {f"hidden state {n}": pick(x) for n, x in enumerate(output.hidden_states)}
    logits = ours.mlm_head(pick(output.last_hidden_state))
    return {**states, "logits": logits, "pooled": output.pooler_output}


def run_reference(reference, batch):
    ids, real = batch
    output = reference(ids, real.long(), output_hidden_states=True)
    states = {f"hidden state {n}": x[real] for n, x in enumerate(output.hidden_states)}
    last, mask = output.hidden_states[-1], real.unsqueeze(-1)
    mean = reference.config.classifier_pooling == "mean"
    pooled = (last * mask).sum(1) / mask.sum(1) if mean else last[:, 0]
    return {**states, "logits": output.logits[real], "pooled": reference.head(pooled)}


def gradients_of_ours(ours, outcome):
    modules = nn.ModuleDict({"encoder": ours.encoder, "mlm_head": ours.mlm_head})
    names = hub_names(modules)
    return {names[name]: g for name, g in gradients(modules, outcome).items()}


def gradients_of_reference(reference, outcome):
    found = gradients(reference, outcome)
    return {name.removeprefix("model."): g for name, g in found.items()}


# Against transformers, in float32


@EVERY_SHAPE
@LAYOUTS
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_and_gradients_equal_transformers(twins, layout, mode):
    ours, reference = twins
    batch = random_batch()
    with in_mode(mode, ours.encoder, reference, dropout=0.0):
        found, want = run_ours(ours, batch, layout), run_reference(reference, batch)
        assert_same(found, want, 1e-5)
        both = gradients_of_ours(ours, found), gradients_of_reference(reference, want)
    assert_same_gradients(*both, 1e-5)


@EVERY_SHAPE
@LAYOUTS
def test_attention_maps_equal_transformers(twins, layout):
    ours, reference = twins
    ids, real = batch = random_batch()
    with torch.no_grad():
        output, _ = encode(ours.encoder, batch, layout, output_attentions=True)
        want = reference(ids, real.long(), output_attentions=True).attentions
    assert len(output.attentions) == len(want) == ours.encoder.config.num_layers
    assert_same(
        {f"layer {n}": x.transpose(1, 2)[real] for n, x in enumerate(output.attentions)},
        {f"layer {n}": x.transpose(1, 2)[real] for n, x in enumerate(want)},
        1e-5,
    )


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [130], [9, 8, 7, 10], [130, 1]], ids=str)
@pytest.mark.parametrize("route", ["plain", "auto"])
@LAYOUTS
@pytest.mark.parametrize("twins", ["odd"], indirect=True)
def test_every_length_and_route_equals_transformers(twins, layout, route, lengths):
    ours, reference = twins
    batch = random_batch(lengths)
    with torch.no_grad(), route_of(route):
        found, want = run_ours(ours, batch, layout), run_reference(reference, batch)
    assert_same(found, want, 1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@LAYOUTS
def test_classifier_equals_transformers(tmp_path, pooling, layout):
    """A checkpoint of a classifier: its logits are a linear map of our pooler's output."""
    sizes = {**SHAPES["odd"], "classifier_pooling": pooling}
    reference = write_reference(tmp_path, ReferenceClassifier, num_labels=3, **sizes)
    ours = load_backbone(tmp_path)
    assert ours.dropped == tuple(
        f"classifier.{leaf}: the head of another task" for leaf in ("bias", "weight")
    )
    batch = ids, real = random_batch()
    output, _ = encode(ours.encoder, batch, layout)
    found = {"logits": reference.classifier(output.pooler_output)}
    want = {"logits": reference(ids, real.long()).logits}
    assert_same(found, want, 1e-5)
    names = hub_names(nn.ModuleDict({"encoder": ours.encoder}))
    found = {names[f"encoder.{k}"]: g for k, g in gradients(ours.encoder, found).items()}
    want = gradients_of_reference(reference, want)
    assert_same_gradients(found, {k: g for k, g in want.items() if k in found}, 1e-5)
    assert len(want) == len(found) + 2


# Dropout


@pytest.mark.parametrize("which", [*DROPOUTS, "all"])
def test_train_mode_drops_what_transformers_drops(tmp_path, which):
    """Both draw from torch's generator, so the same seed gives the same masks in the same order.

    On the plain route, for the quick ones draw other masks. At a rate of 0 nobody draws.
    """
    rates = {name: 0.3 if which in (name, "all") else 0.0 for name in DROPOUTS}
    sizes = {**SHAPES["odd"], **rates}
    reference = write_reference(tmp_path, ReferenceClassifier, **sizes).train()
    encoder = load_backbone(tmp_path).encoder.train()
    ids, real = random_batch()
    with torch.random.fork_rng(), route_of("plain"):
        torch.manual_seed(0)
        pooled = encoder(ids, real).pooler_output
        torch.manual_seed(0)
        want = {"logits": reference(ids, real.long()).logits}
        torch.manual_seed(1)
        other = encoder(ids, real).pooler_output
    found = {"logits": reference.classifier(pooled)}
    assert_same(found, want, 1e-5)
    assert not torch.allclose(pooled, other), "nothing was dropped"
    names = hub_names(nn.ModuleDict({"encoder": encoder}))
    found = {names[f"encoder.{k}"]: g for k, g in gradients(encoder, found).items()}
    want = gradients_of_reference(reference, want)
    assert_same_gradients(found, {k: g for k, g in want.items() if k in found}, 1e-5)


@pytest.mark.parametrize("twins", ["odd"], indirect=True)
def test_dropout_is_the_same_in_either_layout(twins):
    """With known patterns over features in the place of random ones."""
    encoder = copy.deepcopy(twins[0].encoder)
    encoder.embeddings.dropout = KnownDropout("embeddings")
    encoder.pooler_dropout = KnownDropout("pooler")
    for n, layer in enumerate(encoder.layers):
        layer.attention.output_dropout = KnownDropout(f"{n} attention")
        layer.feed_forward.dropout = KnownDropout(f"{n} feed-forward")
    batch = random_batch()
    found = [
        {"last": pick(output.last_hidden_state), "pooled": output.pooler_output}
        for output, pick in (encode(encoder, batch, name) for name in ("padded", "packed"))
    ]
    assert_same(*found, 1e-5)


# Files


def same_settings(found, want):
    """Every setting of `want` that says something about the numbers is in `found`."""
    ignored = {
        "transformers_version", "_name_or_path", "dtype", "architectures", "return_dict",
        "sparse_prediction", "sparse_pred_ignore_index", "deterministic_flash_attn",
    }  # fmt: skip
    shared = {k: v for k, v in want.items() if k not in ignored and k in found}
    assert len(shared) > 20
    assert {k: found[k] for k in shared} == shared


@EVERY_SHAPE
@pytest.mark.parametrize("with_head", [False, True], ids=["encoder", "with head"])
def test_saved_folders_load_in_transformers(twins, tmp_path, with_head):
    ours, reference = twins
    head = ours.mlm_head if with_head else None
    save_pretrained(tmp_path, ours.encoder, ours.tokenizer, mlm_head=head)
    loader = AutoModelForMaskedLM if with_head else AutoModel
    settings = {"attn_implementation": "eager", "output_loading_info": True}
    model, report = loader.from_pretrained(tmp_path, **settings)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    assert set(report["unexpected_keys"]) == (
        set() if with_head else {"head.dense.weight", "head.norm.weight"}
    )
    own = dict(reference.named_parameters() if with_head else reference.model.named_parameters())
    assert dict(model.named_parameters()).keys() == own.keys()
    assert all(p.equal(own[name]) for name, p in model.named_parameters())
    if with_head:
        assert load_file(tmp_path / "model.safetensors").keys() == own.keys()
    same_settings(model.config.to_dict(), reference.config.to_dict())

    # A classifier takes the pooler from either file, as from a hub checkpoint.
    model, report = ReferenceClassifier.from_pretrained(tmp_path, **settings)
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert model.head.dense.weight.equal(reference.head.dense.weight)

    again = load_backbone(tmp_path, mlm_head=with_head)
    assert again.encoder.config == ours.encoder.config
    assert all(p.equal(again.encoder.get_parameter(n)) for n, p in
               ours.encoder.named_parameters())  # fmt: skip


def test_a_checkpoint_without_a_pooler_loads_where_it_may_start_anew(tmp_path):
    reference = write_reference(tmp_path / "whole", **SHAPES["odd"])
    reference.model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"missing: head\.dense\.weight, head\.norm\.weight"):
        load_backbone(tmp_path)
    backbone = load_backbone(tmp_path, fresh=("pooler",))
    assert backbone.fresh == ("encoder.pooler.dense.weight", "encoder.pooler.norm.weight")
    assert (backbone.encoder.pooler.norm.weight == 1).all()


def test_a_decoder_that_is_not_tied_is_refused(tmp_path):
    reference = write_reference(tmp_path, **SHAPES["odd"], tie_word_embeddings=False)
    assert not reference.decoder.weight.equal(reference.model.embeddings.tok_embeddings.weight)
    with pytest.raises(ValueError, match="tie_word_embeddings = False"):
        load_backbone(tmp_path, mlm_head=True)
    settings = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(
        json.dumps({**settings, "tie_word_embeddings": True}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"not tied: decoder\.weight"):
        load_backbone(tmp_path, mlm_head=True)


LEGACY = {
    "global_attn_every_n_layers": 2, "global_rope_theta": 500.0, "local_rope_theta": 70.0,
    "local_attention": 12, "num_hidden_layers": 4, "vocab_size": 99, "pad_token_id": 5,
    "reference_compile": False, "position_embedding_type": "absolute",
}  # fmt: skip
MODERN = {
    "layer_types": ["full_attention", "sliding_attention"] * 2,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 70.0},
    },
    **{k: LEGACY[k] for k in ("local_attention", "num_hidden_layers", "vocab_size")},
    "pad_token_id": 5,
}


@pytest.mark.parametrize("settings", [LEGACY, MODERN, LEGACY | MODERN], ids=["old", "new", "both"])
def test_either_spelling_of_a_config_is_read_and_both_are_written(settings):
    ours = ModernBertConfig.from_hub(settings)
    assert (ours.global_every, ours.global_theta, ours.local_theta) == (2, 500.0, 70.0)
    assert (ours.local_attention, ours.num_layers, ours.pad_token_id) == (12, 4, 5)
    written = ours.to_hub()
    for spelling in (LEGACY, MODERN):
        for name in spelling.keys() - {"reference_compile", "position_embedding_type"}:
            assert written[name] == spelling[name], name
    for spelling in (LEGACY, MODERN, written):
        reference = transformers.ModernBertConfig(**spelling)
        assert reference.layer_types == ours.layer_types
        assert reference.rope_parameters == MODERN["rope_parameters"]


def test_default_config_is_transformers_default():
    same_settings(ModernBertConfig().to_hub(), transformers.ModernBertConfig().to_dict())
    assert ModernBertConfig.from_hub(transformers.ModernBertConfig().to_dict()) == (
        ModernBertConfig()
    )
    assert ModernBertConfig.from_hub({}) == ModernBertConfig()
    assert ModernBertConfig.from_hub({"pad_token_id": None}).pad_token_id is None


REFUSED = [
    ({"hidden_size": 100}, "hidden_size 100 is not divisible by 2 x num_heads 12"),
    ({"num_layers": 0}, "num_layers must be at least 1, it is 0"),
    ({"global_every": 0}, "global_every must be at least 1, it is 0"),
    ({"local_attention": 1}, "local_attention must be at least 2, it is 1"),
    ({"vocab_size": 100}, "pad_token_id 50283 is no token of a vocabulary of 100"),
    ({"max_positions": 0}, "max_positions must be at least 1, it is 0"),
    ({"classifier_pooling": "max"}, "classifier_pooling is 'max'; choose one of cls, mean"),
    *(({name: 1.0}, rf"{name} must be in \[0, 1\), it is 1.0") for name in DROPOUTS),
]


@pytest.mark.parametrize("sizes, message", REFUSED)
def test_a_wrong_config_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        ModernBertConfig(**sizes)


YARN = {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"norm_bias": True}, "norm_bias = True, and ModernBertConfig computes False only"),
        ({"hidden_activation": "relu"}, "hidden_activation = 'relu'"),
        ({"rope_parameters": YARN}, "rope_type = 'yarn', and ModernBertConfig computes 'default'"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "global layers are each n-th"),
    ],
)
def test_a_checkpoint_that_computes_otherwise_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModernBertConfig.from_hub(settings)


# The tokenizer


def assert_same_ids(ours, reference):
    for texts in ((TEXTS,), (TEXTS, PAIRS)):
        for limit in (None, 8):
            got = ours.encode(*texts, max_length=limit)
            want = reference(*texts, truncation=limit is not None, max_length=limit)
            assert got.input_ids == want["input_ids"]
            assert "token_type_ids" not in want
            assert (got.truncated > 0) == (limit is not None)


@pytest.mark.parametrize("settings", [True, False], ids=["with settings", "tokenizer.json alone"])
def test_the_tokenizer_equals_transformers_and_so_does_what_it_saves(tmp_path, settings):
    write_tokenizer(tmp_path / "in")
    (tmp_path / "in" / "config.json").write_text('{"model_type": "modernbert"}', encoding="utf-8")
    reference = AutoTokenizer.from_pretrained(tmp_path / "in")
    if not settings:
        (tmp_path / "in" / "tokenizer_config.json").unlink()
    ours = Tokenizer.from_folder(tmp_path / "in")
    assert (ours.unk_id, ours.cls_id, ours.sep_id, ours.pad_id, ours.mask_id) == (0, 1, 2, 3, 4)
    assert_same_ids(ours, reference)
    ours.save(tmp_path / "out")
    shutil.copy(tmp_path / "in" / "config.json", tmp_path / "out")
    assert not (tmp_path / "out" / "vocab.txt").exists()
    saved = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert_same_ids(ours, saved)
    assert_same_ids(Tokenizer.from_folder(tmp_path / "out"), reference)
    assert saved.pad_token_id == 3 and saved.mask_token_id == 4
    assert saved.model_input_names == ["input_ids", "attention_mask"]
    row = ours.encode(["the world"], ["one"]).input_ids[0]
    assert [row[0], row[-1], row.count(2)] == [1, 2, 2]
    assert ours.decode(row[1 : row.index(2)]) == "the world"
    assert ours.decode(ours.encode(["naïve 東京"]).input_ids[0]) == "naïve 東京"


# A new encoder


def test_initial_values_are_those_of_transformers():
    sizes = {"vocab_size": 500, "hidden_size": 96, "num_layers": 2, "intermediate_size": 80}
    ours = ModernBertConfig(**sizes, num_heads=4, initializer_range=0.07, pad_token_id=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ModernBert(ours)
        reference = ReferenceForMaskedLM(transformers.ModernBertConfig(**ours.to_hub()))
    model = nn.ModuleDict({"encoder": encoder, "mlm_head": encoder.make_mlm_head()})
    wanted = {k.removeprefix("model."): p for k, p in reference.named_parameters()}
    names = hub_names(model)
    assert set(names.values()) == wanted.keys() and len(names) == 17
    for ours, theirs in names.items():
        parameter, want = model.get_parameter(ours), wanted[theirs]
        if parameter.dim() == 1:
            assert parameter.equal(want), ours
        else:
            assert parameter.std().item() == pytest.approx(want.std().item(), rel=0.04), ours
            assert parameter.abs().max().item() == pytest.approx(want.abs().max().item(), rel=0.02)
    assert (encoder.embeddings.word.weight[3] == 0).all()


def test_named_sizes_grow_to_those_of_the_paper():
    millions = {}
    for name, size in ModernBertConfig.SIZES.items():
        with torch.device("meta"):
            encoder = ModernBert(ModernBertConfig(**size))
        parameters = dict(encoder.named_parameters())
        millions[name] = round(
            sum(p.numel() for k, p in parameters.items() if "pooler" not in k) / 1e6
        )
    assert (millions["base"], millions["large"]) == (149, 395)
    assert sorted(millions.values()) == list(millions.values())
