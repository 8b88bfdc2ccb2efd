"""What the files of a tokenizer may say, and which of it this project does as transformers does.

Each key of tokenizer_config.json is read (here or in minbert/tokenization.py), known to be without
effect on token ids, or refused by name where it asks for something else. The parts of a
tokenizer.json are BERT's where its class is, as transformers builds it: what is left out there is
filled in, and what is another is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from minbert.files import brief
from minbert.hub_keys import check_keys

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROLES = dict(
    zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS)
)
"""Setting that names a special token -> the token that it must name."""
NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
"""What tokenizer_config.json says about normalizing -> the normalizer's own name for it."""

BERTS = {
    f"{name}Tokenizer{fast}"
    for fast in ("", "Fast")
    for name in ("Bert", "ConvBert", "DistilBert", "Electra", "MobileBert")
}
"""Classes of transformers that are BERT's pipeline, whatever else a tokenizer.json says."""
GENERIC = {"PreTrainedTokenizerFast", "TokenizersBackend"}
"""Classes that do what the tokenizer.json says, and take nothing of NORMALIZER."""

READ = {
    "model_max_length", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens",
}  # fmt: skip
ONLY: dict[str, tuple[Any, ...]] = {
    **{role: (token, None) for role, token in ROLES.items()},
    "tokenizer_class": (*sorted(BERTS | GENERIC), None),
    "truncation_side": ("right", "left"),
    "do_lower_case": (True, False, None),
    "strip_accents": (True, False, None),
    "tokenize_chinese_chars": (True, False, None),
    "split_special_tokens": (False, None),
    "add_bos_token": (False, None),
    "add_eos_token": (False, None),
}
"""Setting -> the values of it that are done here."""
NO_EFFECT = {
    "additional_special_tokens_ids", "auto_map", "backend", "chat_template", "clean_text",
    "clean_up_tokenization_spaces", "do_basic_tokenize", "errors", "from_slow",
    "full_tokenizer_file", "is_local", "legacy", "local_files_only", "max_len", "max_length",
    "model_input_names", "model_specific_special_tokens", "name_or_path", "never_split",
    "pad_to_multiple_of", "pad_token_type_id", "padding", "padding_side", "processor_class",
    "return_token_type_ids", "special_tokens_map_file", "stride", "tokenizer_file",
    "tokenizer_type", "transformers_version", "trim_offsets", "truncation", "truncation_strategy",
    "use_fast", "verbose", "vocab_file",
}  # fmt: skip
"""Settings that change no token id in transformers' tokenizers of these classes, or that are about
padding and cutting, which are asked for with each call."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Look through a tokenizer_config.json: see `check_keys`."""
    plain = {key: _content(value) for key, value in settings.items()}
    known = READ | NO_EFFECT | {key for key in settings if key.endswith("_token")}
    check_keys(plain, ONLY, known, file="tokenizer_config.json", reader="Tokenizer")


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, Mapping) else token


def complete(fast: FastTokenizer, settings: Mapping[str, Any]) -> None:
    """Make a tokenizer what its class in transformers is: BERT's pipeline with the settings'
    normalizer, or as it stands.

    Raises:
        ValueError: it has other parts than its class, or puts no [CLS] and [SEP] around a text.
    """
    kind = settings.get("tokenizer_class")
    if kind in BERTS or (kind is None and isinstance(fast.model, WordPiece)):
        _complete_bert(fast, settings)
    if getattr(fast.model, "dropout", None):
        raise ValueError(
            f"model.dropout is {fast.model.dropout}, which draws other tokens each time; set it "
            "to null"
        )
    ends = [fast.token_to_id(token) for token in ("[CLS]", "[SEP]")]
    ids = fast.encode("").ids
    if ids[:1] + ids[-1:] != ends:
        raise ValueError(
            "post_processor puts no [CLS] before a text and [SEP] after it, which an encoder "
            "needs; take the tokenizer.json of the model, or name its tokenizer_class"
        )


def _complete_bert(fast: FastTokenizer, settings: Mapping[str, Any]) -> None:
    model = fast.model
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "model.type": (type(model).__name__, ("WordPiece",)),
        "normalizer.type": (type(fast.normalizer).__name__, ("BertNormalizer", "NoneType")),
        "pre_tokenizer.type": (type(fast.pre_tokenizer).__name__, ("BertPreTokenizer", "NoneType")),
    }
    for setting, usual in (
        ("unk_token", "[UNK]"),
        ("continuing_subword_prefix", "##"),
        ("max_input_chars_per_word", 100),
    ):
        found[f"model.{setting}"] = (getattr(model, setting, usual), (usual,))
    found["normalizer.clean_text"] = (getattr(fast.normalizer, "clean_text", True), (True,))
    for part, (value, wanted) in found.items():
        if value not in wanted:
            raise ValueError(
                f"{part} is {brief(value)}, and a BERT's is {brief(wanted[0])}; where the file "
                'is to be followed, write "tokenizer_class": "PreTrainedTokenizerFast" into '
                "tokenizer_config.json"
            )
    if fast.normalizer is None:
        fast.normalizer = BertNormalizer()
    if fast.pre_tokenizer is None:
        fast.pre_tokenizer = BertPreTokenizer()
    for setting, own in NORMALIZER.items():
        if setting in settings:
            value = settings[setting]
            if value is not None or setting == "strip_accents":  # None follows do_lower_case
                setattr(fast.normalizer, own, value)
    cls, sep = (fast.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    if fast.post_processor is None:
        fast.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
        )
    pair = fast.encode("", "")
    if (pair.ids, pair.type_ids) != ([cls, sep, sep], [0, 0, 1]):
        raise ValueError(
            f"post_processor makes {' '.join(pair.tokens)} of an empty pair, and a BERT's is "
            "[CLS] [SEP] [SEP] with segments 0 0 1; set it to null, and it is that"
        )
