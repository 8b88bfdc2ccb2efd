"""Tokenization against transformers' BertTokenizer."""

import itertools
import json
import shutil

import pytest
from transformers import AutoTokenizer, BertTokenizer

from minbert import Tokenizer
from minbert.checks import InputWarning

TEXTS = [
    "A plain sentence, with commas; and (brackets).",
    "UPPER and MiXeD Case",
    "Café naïve Ångström ÉCOLE déjà vu señor",
    "Cafe\u0301 with a combining accent, and ﬁ ligatures",
    "你好，世界 mixed with English 東京タワー",
    "한국어 русский العربية हिन्दी ไทย",
    "emoji 🙂 👩‍👩‍👧‍👦 🇨🇭 and ☃",
    "[MASK] in the [MASK] text, [CLS] [SEP] and [mask] too",
    "don't 'quote' \"this\" -- or this…",
    "3.14, 1,000,000 and 2nd-hand",
    "tabs\tand\nnew lines\r\nand\u00a0no-break\u2003spaces",
    "zero\u200bwidth, soft\u00adhyphen, \ufeffmark, null\x00 and bell\x07",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "a" * 150 + " " + "pneumono" * 20,
    "İstanbul ıslak STRASSE straße ǅ",
    "https://example.org/a_b?c=d&e=f #tag @name",
    " ",
    "",
    "…",
]
SECONDS = list(reversed(TEXTS))

# Each setting of the normalizer changes how "Hello Café 中国" splits with this vocabulary.
CASED = "[PAD] [UNK] [CLS] [SEP] [MASK] hello Hello cafe café Café C ##a ##f ##é ##e 中 国 中国 ,"
SETTINGS = [
    dict(zip(("do_lower_case", "strip_accents", "tokenize_chinese_chars"), values))
    for values in itertools.product([True, False], [None, True, False], [True, False])
]


def write_tokenizer(folder, tokens, **settings):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in tokens), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "config.json").write_text(
        '{"model_type": "bert"}', encoding="utf-8"
    )  # what AutoTokenizer goes by
    return folder


def assert_same_ids(ours, reference, texts=TEXTS, seconds=SECONDS):
    """Same ids and segments, for single texts and for pairs."""
    for pairs in ((texts,), (texts, seconds)):
        got, want = ours.encode(*pairs), reference(*map(list, pairs))
        assert got.truncated == 0 and len(got) == len(texts)
        for n, text in enumerate(zip(*pairs)):
            tokens = ours.tokens(got.input_ids[n])
            assert tokens == reference.convert_ids_to_tokens(want["input_ids"][n]), text
            assert got.input_ids[n] == want["input_ids"][n], text
            assert got.token_type_ids[n] == want["token_type_ids"][n], text


@pytest.fixture(scope="module")
def ours(minilm_folder):
    return Tokenizer.from_folder(minilm_folder)


@pytest.fixture(scope="module")
def reference(minilm_folder):
    return BertTokenizer.from_pretrained(minilm_folder)


def test_tokenizer_json_equals_transformers(ours, reference):
    assert len(ours) == len(reference) == 30522
    assert_same_ids(ours, reference)


@pytest.mark.parametrize("lowercase", [True, False], ids=["uncased", "cased"])
def test_vocab_txt_equals_transformers(tmp_path, minilm_folder, lowercase):
    tokens = (minilm_folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    folder = write_tokenizer(tmp_path, tokens, do_lower_case=lowercase)
    ours, reference = Tokenizer.from_folder(folder), BertTokenizer.from_pretrained(folder)
    assert_same_ids(ours, reference)
    if lowercase:
        assert_same_ids(ours, BertTokenizer.from_pretrained(minilm_folder))
    same = Tokenizer.from_vocab(folder / "vocab.txt", lowercase=lowercase)
    assert same.encode(TEXTS) == ours.encode(TEXTS)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json", "tokenizer.json alone"])
def test_settings_of_the_normalizer_are_kept_and_saved(tmp_path, settings, file):
    texts = ["Hello Café 中国, HELLO Cafe\u0301"]
    folder = write_tokenizer(tmp_path / "in", CASED.split(), **settings)
    reference = AutoTokenizer.from_pretrained(folder)
    if file == "tokenizer.json":  # of other settings: those of tokenizer_config.json hold
        other = write_tokenizer(tmp_path / "other", CASED.split(), do_lower_case=True)
        Tokenizer.from_folder(other).save(other)
        shutil.copy(other / "tokenizer.json", folder)
        (folder / "vocab.txt").unlink()
    if file == "tokenizer.json alone":
        Tokenizer.from_folder(folder).save(folder)
        (folder / "vocab.txt").unlink()
        (folder / "tokenizer_config.json").unlink()
    ours = Tokenizer.from_folder(folder)
    assert_same_ids(ours, reference, texts, texts)
    ours.save(tmp_path / "in")
    assert_same_ids(Tokenizer.from_folder(folder), reference, texts, texts)
    assert_same_ids(ours, AutoTokenizer.from_pretrained(folder), texts, texts)


def test_each_setting_of_the_normalizer_makes_a_difference(tmp_path):
    """Or the test above would test nothing."""
    seen = set()
    for settings in SETTINGS:
        folder = write_tokenizer(tmp_path, CASED.split(), **settings)
        seen.add(tuple(Tokenizer.from_folder(folder).encode(["Hello Café 中国"]).input_ids[0]))
    assert len(seen) == 8  # strip_accents unset follows do_lower_case


def test_other_settings_survive_saving(tmp_path):
    tokens = CASED.split()
    folder = write_tokenizer(tmp_path, tokens, model_max_length=77, never_split=None, list=[1])
    Tokenizer.from_folder(folder).save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["model_max_length"] == AutoTokenizer.from_pretrained(folder).model_max_length == 77
    assert saved["list"] == [1] and saved["tokenizer_class"] == "BertTokenizer"


# Tokens that a folder lists beside vocab.txt

BASE = [*CASED.split(), "[", "]", "e", "##n", "##t", "r", "##l"]
FIRST, SECOND = len(BASE), len(BASE) + 1
MARKED = ["hello [ENT] hello", "[ent]hello[REL] , [rel]", "hello [MASK][BOS] [EOS]", "\u00c7 [ E"]


def flags(content, **set_):
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"content": content, **plain, **set_}


ADDED = {
    "added_tokens.json": {"added_tokens": {"[ENT]": FIRST, "[REL]": SECOND}},
    "in another order": {"added_tokens": {"[REL]": SECOND, "[ENT]": FIRST}},
    "some special": {
        "added_tokens": {"[ENT]": FIRST, "[REL]": SECOND},
        "tokenizer_config": {"additional_special_tokens": ["[ENT]"]},
    },
    "some special by a third file": {
        "added_tokens": {"[ENT]": FIRST, "[BOS]": SECOND},
        "special_tokens_map": {
            "additional_special_tokens": ["[ENT]"],
            "bos_token": "[BOS]",
            "mask_token": flags("[MASK]", lstrip=True),
        },
    },
    "known ones too": {"added_tokens": {"[ENT]": FIRST, "hello": 5, "[MASK]": 4}},
    "settings": {
        "tokenizer_config": {
            "added_tokens_decoder": {
                SECOND: flags("[REL]", normalized=True),
                FIRST: flags("[ENT]", special=True, lstrip=True),
                4: flags("[MASK]", special=True, lstrip=True),
            }
        },
        "added_tokens": {"[BOS]": FIRST},
        "special_tokens_map": {"bos_token": "[BOS]"},
    },
    "special without an id": {
        "tokenizer_config": {
            "eos_token": {**flags("[EOS]", rstrip=True), "__type": "AddedToken"},
            "bos_token": "[BOS]",
            "add_bos_token": False,
            "extra_special_tokens": ["[REL]", "hello"],
        }
    },
    "special with a role": {
        "tokenizer_config": {"extra_special_tokens": {"ent_token": "[ENT]"}},
    },
    "special by a third file": {"special_tokens_map": {"additional_special_tokens": ["[ENT]"]}},
}


def write_files(folder, files):
    """A folder with BASE as vocab.txt, and these other files."""
    write_tokenizer(folder, BASE)
    for stem, content in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("files", ADDED.values(), ids=ADDED)
def test_added_tokens_are_those_of_transformers_and_survive_saving(tmp_path, files):
    folder = write_files(tmp_path / "in", files)
    ours, reference = Tokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
    assert len(ours) == len(reference) > len(BASE)
    assert_same_ids(ours, reference, MARKED, MARKED[::-1])
    found = ours.fast.get_added_tokens_decoder()
    for n, token in reference.added_tokens_decoder.items():
        # transformers lists those of special_tokens_map.json as special, and does not flag them
        token.special = token.special or token.content in reference.all_special_tokens
        assert repr(found.pop(n)) == repr(token)
    assert not found

    ours.save(folder)
    for absent in ("added_tokens.json", "tokenizer.json"):
        (folder / absent).unlink(missing_ok=True)
        saved = AutoTokenizer.from_pretrained(folder)
        assert set(saved.all_special_tokens) == set(reference.all_special_tokens)
        assert_same_ids(Tokenizer.from_folder(folder), reference, MARKED, MARKED[::-1])
        assert_same_ids(ours, saved, MARKED, MARKED[::-1])


@pytest.mark.parametrize(
    "files, message",
    [
        (
            {"added_tokens": {"[ENT]": FIRST + 1}},
            rf"added_tokens.json gives '\[ENT\]' the id {SECOND}, .* gets {FIRST}; mend the id",
        ),
        ({"added_tokens": {"hello": 6}}, "gives 'hello' the id 6, .* gets 5; mend the id"),
        (
            {"tokenizer_config": {"added_tokens_decoder": {5: flags("[ENT]")}}},
            rf"tokenizer_config.json gives '\[ENT\]' the id 5, .* gets {FIRST}; mend the id",
        ),
        ({"added_tokens": ["[ENT]"]}, "added_tokens.json: the value is .*; give names with values"),
        (
            {"tokenizer_config": {"added_tokens_decoder": {5: "[ENT]"}}},
            "tokenizer_config.json does not list tokens as transformers does",
        ),
    ],
    ids=["hole", "known", "taken", "no object", "no flags"],
)
def test_added_tokens_that_cannot_have_their_id_are_refused(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_folder(write_files(tmp_path, files))


def test_special_tokens_survive_saving_beside_a_tokenizer_json(tmp_path):
    """transformers 4 left the list in special_tokens_map.json alone before it had flags."""
    folder = write_files(tmp_path, ADDED["special by a third file"])
    Tokenizer.from_folder(folder).save(folder)
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    Tokenizer.from_folder(folder).save(tmp_path / "out")
    shutil.copy(folder / "config.json", tmp_path / "out")
    assert "[ENT]" in AutoTokenizer.from_pretrained(tmp_path / "out").all_special_tokens


def test_folders_may_be_text_and_in_the_home(tmp_path, monkeypatch, ours):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ours.save("~/saved")
    ours.save("here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "saved"]
    for folder in ("~/saved", "here", str(tmp_path / "saved")):
        assert Tokenizer.from_folder(folder).encode(TEXTS) == ours.encode(TEXTS)
    assert len(Tokenizer.from_vocab("~/saved/vocab.txt")) == len(ours)


def test_lines_of_a_vocabulary_end_at_newlines_only(tmp_path):
    tokens = [*CASED.split(), "one\u2028token", "\x85", "last"]
    folder = write_tokenizer(tmp_path, tokens)
    ours, reference = Tokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
    assert ours.encode(["last"]).input_ids == reference(["last"])["input_ids"]
    assert ours.encode(["last"]).input_ids[0][1] == len(tokens) - 1
    ours.save(folder)
    assert (folder / "vocab.txt").read_text(encoding="utf-8").split("\n") == [*tokens, ""]


def test_windows_line_ends_are_line_ends(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*CASED.split(), ""]).encode())
    assert len(Tokenizer.from_folder(tmp_path)) == len(CASED.split())


def test_segments_and_special_tokens(ours):
    encodings = ours.encode(["one two"], ["three"])
    assert ours.tokens(encodings.input_ids[0]) == ["[CLS]", "one", "two", "[SEP]", "three", "[SEP]"]
    assert encodings.token_type_ids == [[0, 0, 0, 0, 1, 1]]
    special = [ours.pad_id, ours.unk_id, ours.cls_id, ours.sep_id, ours.mask_id]
    assert ours.tokens(special) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_decode_equals_transformers(ours, reference):
    for row in ours.encode(TEXTS, SECONDS).input_ids:
        want = reference.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(row).split() == want.split()


# Truncation


def cut_longest_first(first, second, room):
    """Take a token off the longer text until both fit, which leaves an odd one to the longer."""
    first, second = list(first), list(second)
    short, long = sorted((first, second), key=len)
    while len(short) + len(long) > room:
        (long if len(long) > len(short) else short).pop()
    return first, second


@pytest.mark.parametrize("max_length", [3, 7, 20])
def test_truncated_texts_equal_transformers_and_their_beginning(ours, reference, max_length):
    whole, cut = ours.encode(TEXTS), ours.encode(TEXTS, max_length=max_length)
    want = reference(TEXTS, truncation=True, max_length=max_length)
    assert cut.input_ids == want["input_ids"]
    assert cut.token_type_ids == want["token_type_ids"]
    assert cut.truncated == sum(len(row) > max_length for row in whole.input_ids) > 0
    for long, short in zip(whole.input_ids, cut.input_ids):
        assert short == [ours.cls_id, *long[1:-1][: max_length - 2], ours.sep_id]


@pytest.mark.parametrize("max_length", [5, 6, 17, 24])
def test_truncated_pairs_lose_the_end_of_the_longer_text(ours, reference, max_length):
    cut = ours.encode(TEXTS, SECONDS, max_length=max_length)
    want = reference(TEXTS, SECONDS, truncation="longest_first", max_length=max_length)
    assert cut.input_ids == want["input_ids"]
    assert cut.token_type_ids == want["token_type_ids"]
    firsts, seconds = ([row[1:-1] for row in ours.encode(x).input_ids] for x in (TEXTS, SECONDS))
    cuts = 0
    for first, second, row in zip(firsts, seconds, cut.input_ids):
        cuts += len(first) + len(second) + 3 > max_length
        first, second = cut_longest_first(first, second, max_length - 3)
        assert row == [ours.cls_id, *first, ours.sep_id, *second, ours.sep_id]
    assert cut.truncated == cuts > 0


def test_truncation_does_not_outlast_the_call(ours):
    before = ours.encode(TEXTS)
    assert ours.encode(TEXTS, max_length=4) != before
    assert ours.encode(TEXTS) == before


def test_no_texts_give_no_rows(ours):
    assert len(ours.encode([])) == len(ours.encode([], [], max_length=5)) == 0


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_that_is_cut_is_the_settings(tmp_path, side):
    folder = write_tokenizer(tmp_path, CASED.split(), truncation_side=side)
    ours, reference = Tokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
    text = ["hello cafe hello , hello", "cafe"]
    want = reference(text, truncation=True, max_length=5)["input_ids"]
    found = ours.encode(text, max_length=5)
    assert found.input_ids == want and found.cut == (0,)


# Files that say more, or less, than a BERT's tokenizer

GENERIC = {"tokenizer_class": "PreTrainedTokenizerFast"}
BERT = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
ACCENTS = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}
ONLY_CLS = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
               {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
}  # fmt: skip
VARIANTS = {
    "as it is": ({}, BERT, None),
    "no post_processor": ({"post_processor": None}, BERT, None),
    "no post_processor, no settings": ({"post_processor": None}, None, None),
    "no post_processor, ConvBERT": (
        {"post_processor": None}, {"tokenizer_class": "ConvBertTokenizer"}, None
    ),
    "no post_processor, generic": ({"post_processor": None}, GENERIC, r"puts no \[CLS\] before"),
    "another post_processor": ({"post_processor": ONLY_CLS}, BERT, "makes  of an empty pair"),
    "BertProcessing": (
        {"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}},
        BERT, None,
    ),
    "no normalizer": ({"normalizer": None}, BERT, None),
    "no normalizer, no settings": ({"normalizer": None}, None, None),
    "no normalizer, cased": ({"normalizer": None}, BERT | {"do_lower_case": False}, None),
    "no normalizer, generic": ({"normalizer": None}, GENERIC | {"do_lower_case": True}, None),
    "a Sequence": ({"normalizer": ACCENTS}, BERT, "normalizer.type is 'Sequence', and a BERT's"),
    "a Sequence, generic": ({"normalizer": ACCENTS}, GENERIC | {"do_lower_case": True}, None),
    "lower case, generic": ({}, GENERIC | {"do_lower_case": False}, None),
    "no pre_tokenizer": ({"pre_tokenizer": None}, BERT, None),
    "another pre_tokenizer": (
        {"pre_tokenizer": {"type": "Whitespace"}}, BERT, "pre_tokenizer.type is 'Whitespace'"
    ),
    "short words": ({"max_input_chars_per_word": 3}, BERT, "max_input_chars_per_word is 3"),
    "control signs": ({"clean_text": False}, BERT, "clean_text is False"),
    "split": ({}, BERT | {"split_special_tokens": True}, "split_special_tokens = True"),
    "bos": ({}, BERT | {"add_bos_token": True, "bos_token": "hello"}, "add_bos_token = True"),
    "no bos": ({}, BERT | {"add_bos_token": False}, None),
    "other [CLS]": ({}, BERT | {"cls_token": "hello"},
                    r"cls_token = 'hello', and Tokenizer computes '\[CLS\]' only; load another"),
    "text for true": ({}, BERT | {"do_lower_case": "false"},
                      "do_lower_case = 'false', and Tokenizer computes True or False only; load"),
    "unknown class": ({}, {"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapaneseTokenizer"),
    "no effect": ({}, BERT | {"padding_side": "left", "never_split": ["cafe"]}, None),
}  # fmt: skip


@pytest.mark.parametrize("parts, settings, refused", VARIANTS.values(), ids=VARIANTS)
def test_a_tokenizer_json_gives_transformers_ids_or_is_refused(tmp_path, parts, settings, refused):
    folder = write_tokenizer(tmp_path, CASED.split())
    Tokenizer.from_folder(folder).save(folder)
    (folder / "vocab.txt").unlink()
    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for key, value in parts.items():
        place = whole["model"] if key in whole["model"] else whole
        place = whole["normalizer"] if key == "clean_text" else place
        assert key in place
        place[key] = value
    (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    (folder / "tokenizer_config.json").unlink()
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if refused:
        with pytest.raises(ValueError, match=refused):
            Tokenizer.from_folder(folder)
        return
    texts = ["Hello Café 中国, hello", "", "cafe\x07 HELLO", "hello" * 30]
    ours, reference = Tokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
    for pairs in ((texts,), (texts, texts[::-1])):
        assert ours.encode(*pairs).input_ids == reference(*pairs)["input_ids"]
    ours.save(folder)
    again = Tokenizer.from_folder(folder)
    assert again.encode(texts, texts[::-1]) == ours.encode(texts, texts[::-1])


def test_settings_of_a_tokenizer_that_are_not_known_are_said(tmp_path):
    folder = write_tokenizer(tmp_path, CASED.split(), do_lowercase=True, model_max_length=9)
    with pytest.warns(InputWarning, match="nothing is known of do_lowercase; without effect"):
        Tokenizer.from_folder(folder)


# What is refused


@pytest.mark.parametrize(
    "arguments, settings, message",
    [
        ((["a"],), {"max_length": 2}, "max_length 2 leaves no room.*use at least 3"),
        ((["a"], ["b"]), {"max_length": 4}, "max_length 4 leaves no room.*use at least 5"),
        (("a text",), {}, "texts must be a list of texts, not one; put the one text in a list"),
        ((["a", "b"], ["c"]), {}, "2 first texts and 1 second ones do not pair"),
    ],
)
def test_wrong_input_is_refused(ours, arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        ours.encode(*arguments, **settings)


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "has neither tokenizer.json nor vocab.txt"),
        ({"vocab.txt": "[PAD]\n[UNK]\n[CLS]\na\n"}, r"lacks \['\[SEP\]', '\[MASK\]'\]"),
        ({"vocab.txt": CASED.replace(" ", "\n") + "\ncafe\n"}, "lists 'cafe' twice"),
        ({"tokenizer.json": "{}"}, "tokenizer.json is not a tokenizer file"),
        ({"tokenizer.json": "not json"}, "tokenizer.json is not a tokenizer file"),
        ({"tokenizer_config.json": "not json"}, "tokenizer_config.json is not a JSON file"),
    ],
    ids=["nothing", "special tokens", "twice", "empty json", "no json", "settings"],
)
def test_a_wrong_folder_is_refused(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_a_tokenizer_json_without_special_tokens_is_refused(tmp_path, ours):
    text = ours.fast.to_str().replace("[MASK]", "[OTHER]")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"the vocabulary lacks \['\[MASK\]'\]"):
        Tokenizer.from_folder(tmp_path)
