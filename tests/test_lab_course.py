"""`minbert lab check` in a checkout of CS224N's or CMU's minBERT."""

import importlib
import shutil
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from lab.commands import lab
from lab.course import expected as sums
from lab.course import replay, report
from lab.course.checks import cases
from lab.course.layout import checkout_around, course_of, missing_packages
from lab.course.mistakes import known
from lab.course.parts import PART_BY_NAME, PARTS
from lab.course.watch import CheckoutWatch
from lab.exercises import BY_NAME
from lab.runner import describe
from lab.watch import Spare

CHECKOUT = Path(__file__).parent / "checkout"
MODULES = ("bert", "base_bert", "config", "utils", "optimizer", "classifier")
MODULES += ("multitask_classifier", "boto3_of_no_registry", "importlib_metadata")


@cache
def expected(name):
    return sums.expected(PART_BY_NAME[name], seed=0)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the right one, whose modules can be imported here."""
    root = shutil.copytree(CHECKOUT, tmp_path / "checkout")
    text = (root / "utils.py").read_text(encoding="utf-8")
    text = text.replace("import importlib_metadata", "import importlib.metadata")
    text = text.replace("importlib_metadata.version", "importlib.metadata.version")
    (root / "utils.py").write_text(text, encoding="utf-8")
    (root / "boto3_of_no_registry.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(root)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield root
    for name in MODULES:
        sys.modules.pop(name, None)


def edit(root, file, old, new):
    text = (root / file).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} has {text.count(old)} of {old!r}"
    (root / file).write_text(text.replace(old, new), encoding="utf-8")


def found(root, name):
    """What is said of a part, as the report says it, without a process of its own."""
    outcome = {"cases": [], "error": None}
    try:
        for title, value in cases(name, 0, importlib.import_module):
            outcome["cases"].append([title, value])
    except Exception as error:
        outcome["error"] = describe(error, root)
    return report.say(root, PART_BY_NAME[name], outcome, lambda: expected(name))


@pytest.mark.parametrize("name", PART_BY_NAME)
def test_a_right_checkout_is_right(checkout, name):
    assert found(checkout, name) == report.Found(PART_BY_NAME[name], "done")


WRONG = (
    ("attention", "bert.py", " / math.sqrt(key.size(-1))", "", "the scores are not scaled"),
    ("attention", "bert.py", "math.sqrt(key.size(-1))", "key.size(-1)", "divided by D"),
    ("attention", "bert.py", "        scores = scores + attention_mask\n", "",
     "the mask is not used"),
    ("attention", "bert.py",
     "scores = scores + attention_mask\n        probabilities = F.softmax(scores, dim=-1)",
     "probabilities = F.softmax(scores, dim=-1) + attention_mask",
     "the mask is added after the softmax"),
    ("attention", "bert.py", "scores + attention_mask",
     "scores.masked_fill(attention_mask == 0, -1e9)", "is taken for 1 there"),
    ("attention", "bert.py", "dim=-1)\n        context", "dim=-2)\n        context",
     "softmax runs over the queries"),
    ("attention", "bert.py", "context.transpose(1, 2).flatten(2)",
     "context.reshape(2, -1, 12)", "merged without the transpose"),
    ("attention", "bert.py", "context.transpose(1, 2).flatten(2)", "context",
     "the heads are not merged"),
    ("attention", "bert.py", "key.transpose(-1, -2)", "key", "the key is not transposed"),
    ("attention", "bert.py", "self.dropout(probabilities) @ value", "probabilities @ value",
     "there is no dropout on the probabilities"),
    ("attention", "bert.py", " / math.sqrt(key.size(-1))\n        scores = scores + attention_mask",
     "", "the scores are not scaled, and the mask is not used"),
    ("add_norm", "bert.py", "input + dropout(dense_layer(output))",
     "dropout(input + dense_layer(output))", "dropout acts on the sum"),
    ("add_norm", "bert.py", "ln_layer(input + dropout(dense_layer(output)))",
     "input + ln_layer(dropout(dense_layer(output)))", "is normalised, then dropped and added"),
    ("add_norm", "bert.py", "dropout(dense_layer(output))", "dense_layer(output)",
     "there is no dropout"),
    ("add_norm", "bert.py", "input + dropout(dense_layer(output))", "dropout(dense_layer(output))",
     "the residual is missing"),
    ("add_norm", "bert.py", "dropout(dense_layer(output))", "dropout(output)",
     "dense_layer, is missing"),
    ("layer", "bert.py", "self.interm_af(self.interm_dense(x))",
     "self.interm_af(self.interm_dense(hidden_states))", "reads the layer's input"),
    ("layer", "bert.py", "self.interm_af(self.interm_dense(x))", "self.interm_dense(x)",
     "nothing between the two linear maps"),
    ("layer", "bert.py", "self.add_norm(x, inner", "self.add_norm(hidden_states, inner",
     "the second residual is the layer's input"),
    ("embed", "bert.py", "words + places + types", "words + types", "positions are missing"),
    ("embed", "bert.py", "words + places + types", "words + places",
     "the embedding of the token types is missing"),
    ("embed", "bert.py", "self.embed_dropout(self.embed_layer_norm(words + places + types))",
     "self.embed_layer_norm(self.embed_dropout(words + places + types))",
     "dropout comes before LayerNorm"),
    ("model", "bert.py", "states[:, 0]", "states[:, -1]", "the last token is pooled"),
    ("model", "bert.py", "layer(hidden_states, mask)", "layer(hidden_states.detach(), mask)",
     "the states are cut off"),
    ("model", "bert.py", "get_extended_attention_mask(attention_mask, self.dtype)  # noqa: F405",
     "attention_mask[:, None, None, :].float()", "the layers are given 1 and 0"),
    ("adamw", "optimizer.py", "p.grad.data, self",
     'p.grad.data + group["weight_decay"] * p.data, self', "decoupled and in the gradient"),
    ("adamw", "optimizer.py", "                    t = state[\"t\"]\n",
     "                    t = self.t = getattr(self, 't', 0) + 1\n", "one step count is shared"),
    ("adamw", "optimizer.py", 'if group["correct_bias"]:', "if False:", "no bias correction"),
    ("adamw", "optimizer.py", 'if group["correct_bias"]:', "if True:",
     "the biases are corrected always"),
    ("adamw", "optimizer.py", 'p.data -= group["lr"] * group', "p.data -= rate * group",
     "the decay is multiplied by the corrected rate"),
    ("adamw", "optimizer.py", "(state[\"v\"].sqrt() + group[\"eps\"])",
     "(state[\"v\"] + group[\"eps\"]).sqrt()", "eps is inside the root"),
    ("adamw", "optimizer.py", "state.update(t=0,", "state.update(t=1,",
     "the step count is one too high"),
    ("classifier", "classifier.py", '["pooler_output"]', '["last_hidden_state"][:, -1]',
     "they change with tokens after [CLS]"),
    ("classifier", "classifier.py", '["pooler_output"]', '["last_hidden_state"].mean(1)',
     "they change with tokens after [CLS]"),
    ("classifier", "classifier.py", "self.dropout(pooled)", "pooled", "there is none; the handout"),
    ("classifier", "classifier.py", "self.output(self.dropout(pooled))",
     "self.dropout(self.output(pooled))", "it acts on the logits"),
    ("classifier", "classifier.py", "self.dropout(pooled)",
     "nn.functional.dropout(pooled, 0.3)", "F.dropout wants training=self.training"),
    ("classifier", "classifier.py", "self.output(self.dropout(pooled))",
     "self.output(self.dropout(pooled)).softmax(-1)", "these are probabilities"),
    ("classifier", "classifier.py", '["pooler_output"]', '["pooler_output"].detach()',
     "its output is cut off"),
    ("classifier", "classifier.py", 'config.option == "finetune"', "True", "others of BERT train"),
    ("classifier", "classifier.py", 'config.option == "finetune"', "False", "others do not train"),
    ("multitask", "multitask_classifier.py",
     "return self.paraphrase(self.dropout(torch.cat([first, second], dim=-1)))",
     "return self.paraphrase(torch.cat([first, second], dim=-1)).sigmoid().squeeze(-1)",
     "its last step is a sigmoid; evaluation takes another"),
    ("multitask", "multitask_classifier.py", "torch.cat([first, second], dim=-1)",
     "torch.cat([first, first], dim=-1)", "predict_paraphrase: the second text: nothing changes"),
    ("multitask", "multitask_classifier.py", '["pooler_output"]', '["last_hidden_state"].mean(1)',
     "answers change with padding"),
    ("multitask", "multitask_classifier.py", "self.similarity(first, second)",
     "self.similarity(first, second).mean()", "the shape is (); it should be (3,)"),
)  # fmt: skip


@pytest.mark.parametrize("name, file, old, new, text", WRONG)
def test_a_mistake_is_named(checkout, name, file, old, new, text):
    edit(checkout, file, old, new)
    said = found(checkout, name)
    assert said.status == "wrong" and text in said.message


def test_a_mistake_does_not_reach_other_parts(checkout):
    edit(checkout, "bert.py", " / math.sqrt(key.size(-1))", "")
    edit(checkout, "bert.py", "dropout(dense_layer(output))", "dense_layer(output)")
    edit(checkout, "bert.py", "words + places + types", "words")
    statuses = {name: found(checkout, name).status for name in PART_BY_NAME}
    wrong = {name for name, status in statuses.items() if status != "done"}
    assert wrong == {"attention", "add_norm", "embed"}


def test_what_is_blank_renamed_or_of_another_handout_is_said(checkout):
    blank = "        raise NotImplementedError\n        scores = query @"
    edit(checkout, "bert.py", "        scores = query @", blank)
    edit(checkout, "bert.py", "words = self.word_embedding(input_ids)", "words = None")
    right = "return self.embed_dropout(self.embed_layer_norm(words + places + types))"
    edit(
        checkout, "bert.py", right, "x = words + places + types\n        raise NotImplementedError"
    )
    assert found(checkout, "attention").status == found(checkout, "embed").status == "not started"
    text = (checkout / "bert.py").read_text(encoding="utf-8")
    (checkout / "bert.py").write_text(text.replace("out_dense", "second"), encoding="utf-8")
    importlib.reload(sys.modules["bert"])
    said = found(checkout, "layer")
    assert said.status == "not checked" and "BertLayer has no out_dense.weight" in said.message
    edit(checkout, "classifier.py", "config.num_labels", "config.num_classes")
    said = found(checkout, "classifier")
    assert said.status == "not checked" and "config.num_classes is asked for" in said.message
    name = "def predict_sentiment"
    edit(checkout, "multitask_classifier.py", f"{name}(self, input_ids, attention_mask)",
         f"{name}(self, ids, mask, types)")  # fmt: skip
    said = found(checkout, "multitask")
    assert said.status == "not checked" and "takes (ids, mask, types)" in said.message


def test_right_in_other_styles(checkout):
    """PyTorch's own attention; a mask that fills; moments in place; dropout by its function."""
    edit(checkout, "bert.py", "self.dropout(probabilities) @ value",
         "F.scaled_dot_product_attention(query, key, value, attention_mask,"
         " self.dropout.p if self.training else 0.0)")  # fmt: skip
    edit(checkout, "optimizer.py", 'state["m"] = b1 * state["m"] + (1 - b1) * grad',
         'state["m"].lerp_(grad, 1 - b1)')  # fmt: skip
    edit(checkout, "classifier.py", "self.dropout(pooled)",
         "nn.functional.dropout(pooled, 0.1, self.training)")  # fmt: skip
    edit(checkout, "classifier.py", '["pooler_output"]', '["last_hidden_state"][:, 0]')
    for name in ("attention", "adamw", "classifier"):
        assert found(checkout, name).status == "done"


def test_cmus_names_and_its_first_version(checkout):
    edit(checkout, "classifier.py", "BertSentimentClassifier", "BertSentClassifier")
    edit(checkout, "classifier.py", 'config.option == "finetune"', "config.option != 'freeze'")
    assert found(checkout, "classifier").status == "done"
    text = (checkout / "bert.py").read_text(encoding="utf-8")
    text = text.replace(
        "        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)\n", ""
    )
    text = text.replace("self.dropout(probabilities)", "probabilities")
    (checkout / "bert.py").write_text(text, encoding="utf-8")
    for name in ("bert", "classifier"):
        sys.modules.pop(name)
    assert [found(checkout, name).status for name in ("attention", "layer", "model")] == [
        "done"
    ] * 3


def test_a_checkout_is_known_by_its_files(tmp_path, checkout):
    assert checkout_around(checkout / "data") == checkout and checkout_around(tmp_path) is None
    assert course_of(checkout) == "CS224N"
    (checkout / "multitask_classifier.py").unlink()
    assert course_of(checkout) == "CMU" and missing_packages(checkout) == []
    (checkout / "bert.py").write_text("def (", encoding="utf-8")
    assert checkout_around(checkout) == checkout  # by optimizer.py


def test_packages_that_are_missing():
    assert missing_packages(CHECKOUT) == ["boto3_of_no_registry"]


def test_the_labs_mistakes_come_along():
    for part in PARTS:
        assert all(name in BY_NAME for name in part.like)
    for name, least in (("attention", 20), ("add_norm", 9), ("layer", 12), ("embed", 8),
                        ("model", 10), ("adamw", 40)):  # fmt: skip
        assert len(expected(name)["mistakes"]) >= least
        assert len(list(known(PART_BY_NAME[name]))) >= len(expected(name)["mistakes"])


def test_the_reference_is_what_pytorch_computes():
    """Against PyTorch's own layer, and not the lab's answers."""
    from lab.course.checks import additive
    from lab.course.given import bert_config
    from lab.course.reference import BertLayer

    torch.manual_seed(0)
    layer = BertLayer(bert_config()).double().eval()
    other = torch.nn.TransformerEncoderLayer(12, 3, 7, activation="gelu", layer_norm_eps=0.1,
                                             batch_first=True).double().eval()  # fmt: skip
    own = layer.self_attention
    other.self_attn.in_proj_weight.data = torch.cat(
        [own.query.weight, own.key.weight, own.value.weight]
    )
    other.self_attn.in_proj_bias.data = torch.cat([own.query.bias, own.key.bias, own.value.bias])
    for mine, theirs in (
        (layer.attention_dense, other.self_attn.out_proj),
        (layer.interm_dense, other.linear1),
        (layer.out_dense, other.linear2),
    ):
        theirs.load_state_dict(mine.state_dict())
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    with torch.no_grad():
        right = other(x, src_key_padding_mask=~mask)
        torch.testing.assert_close(layer(x, additive(mask))[mask], right[mask])


def test_from_the_command_line(tmp_path, capsys, monkeypatch):
    """In a process of its own, with packages that are missing and a mistake."""
    root = shutil.copytree(CHECKOUT, tmp_path / "their work")
    edit(root, "bert.py", " / math.sqrt(key.size(-1))", "")
    edit(root, "optimizer.py", "loss = closure()", "print('a step'); loss = closure()")
    (root / "multitask_classifier.py").unlink()
    monkeypatch.chdir(root)
    assert lab(["check", "--all"]) == 1
    said = capsys.readouterr().out
    for text in (
        "checking the code of CMU's minBERT in '",
        "not installed here: boto3_of_no_registry;",
        "✗  1  multi-head attention                          wrong\n"
        "      the scores are not scaled; look under the root in equation 1.\n"
        "      bert.py: BertSelfAttention.attention\n"
        f"      hints: minbert lab hint {BY_NAME['attention'].number}",
        "✓  6  AdamW: the step                               done\n",
        "-  8  heads of three tasks                          not there\n",
        "There is no multitask_classifier.py.",
        "Your code printed:\n  a step",
        "6 of 8 parts are right. Next is part 1: multi-head attention; hints: ",
        "Nothing of this is graded",
    ):
        assert text in said


@pytest.mark.slow
def test_a_saved_file_is_checked_again(checkout, capsys):
    (checkout / "classifier.py").unlink()
    watch = CheckoutWatch(checkout, PARTS)
    assert [part.number for part in watch.missing] == [7]
    assert watch.look() == ()
    edit(checkout, "optimizer.py", 'if group["correct_bias"]:', "if False:")
    watch._spare = Spare(watch.launch, watch.WARM)
    assert [part.name for part in watch.look()] == ["adamw"]
    assert watch.statuses == {"adamw": "wrong"}
    said = capsys.readouterr().out
    assert "optimizer.py\n✗  6  AdamW: the step" in said and "there is no bias correction" in said


@pytest.mark.slow
def test_a_case_that_is_wrong_is_replayed(tmp_path, monkeypatch, capfd):
    root = shutil.copytree(CHECKOUT, tmp_path / "their work")
    edit(root, "bert.py", " / math.sqrt(key.size(-1))", "")
    monkeypatch.chdir(root)
    assert lab(["replay", "1", "--print"]) == 1
    said = capfd.readouterr().out
    assert said.startswith(
        "in eval mode: the context, heads merged\n\nBertSelfAttention.attention("
    )
    assert "\nkey = tensor(" in said and "\nexpected = tensor(" in said
    assert lab(["replay", "2", "--print"]) == 0
    assert "there is no case that is wrong" in capfd.readouterr().out


def test_what_cannot_be_replayed_is_said(checkout, capsys, monkeypatch):
    monkeypatch.chdir(checkout)
    (checkout / "classifier.py").unlink()
    assert lab(["replay", "7"]) == 2
    assert "there is no classifier.py in this checkout, which part 7" in capsys.readouterr().err
    assert lab(["next"]) == 2
    assert (
        "in another course's project there are minbert lab check, replay" in capsys.readouterr().err
    )
    assert lab(["replay", "9"]) == 2
    assert "there is no part 9 of a checkout" in capsys.readouterr().err
    monkeypatch.setattr("lab.course.runner.prepare", lambda root: None)
    blank = "        raise NotImplementedError\n        scores = query @"
    edit(checkout, "bert.py", "        scores = query @", blank)
    assert replay.replay(PART_BY_NAME["attention"], checkout, printed=True) == 1
    assert capsys.readouterr().out == "part 1: multi-head attention is not started\n"
    edit(checkout, "bert.py", "self.interm_dense = ", "self.second = ")
    assert replay.replay(PART_BY_NAME["layer"], checkout, printed=True) == 1
    said = capsys.readouterr().out
    assert said.startswith("part 3: the layer cannot be tried: BertLayer has no interm_dense")


def test_what_the_command_refuses(checkout, capsys, tmp_path):
    assert lab(["check", "9", "--folder", str(checkout)]) == 2
    assert "there is no part 9 of a checkout" in capsys.readouterr().err
    assert lab(["check", "--folder", str(tmp_path / "nothing")]) == 2
    assert "is in no student's copy" in capsys.readouterr().err
