"""Text to tokens through the `tokenizers` library: WordPiece (Wu et al., 2016) as BERT has it, or
what else a tokenizer.json describes, such as ModernBERT's byte-level BPE (Sennrich et al., 2016).

[CLS] text [SEP] for one text, [CLS] first [SEP] second [SEP] for a pair; BERT's segment ids are 0
up to the first [SEP] and 1 after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.models import WordPiece

from minbert.checks import texts_of
from minbert.files import MOST_TEXT, brief, read_json, read_text, regular, write_json, write_text
from minbert.pipelines import (
    GENERIC,
    NORMALIZER,
    ROLES,
    SPECIAL_TOKENS,
    check_settings,
    complete,
)

MODEL_INPUTS = ["input_ids", "attention_mask"]
"""What transformers is to pass to an encoder without segments."""


@dataclass(frozen=True)
class Encodings:
    """Token ids of some texts."""

    input_ids: list[list[int]]
    token_type_ids: list[list[int]]
    cut: tuple[int, ...]
    """Rows, from 0, that were longer than max_length and lost their end."""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def truncated(self) -> int:
        """How many rows were cut."""
        return len(self.cut)


class Tokenizer:
    """Text to token ids and back."""

    def __init__(self, fast: FastTokenizer, settings: dict[str, Any] | None = None) -> None:
        """Wrap a tokenizer of the `tokenizers` library.

        Args:
            fast: must know [PAD], [UNK], [CLS], [SEP] and [MASK].
            settings: tokenizer_config.json, kept for saving; where it says how to normalize, that
                holds for a BERT's tokenizer rather than what `fast` has, as in transformers.

        Raises:
            ValueError: tokens are missing, or the settings ask for what is not done here.
        """
        missing = [token for token in SPECIAL_TOKENS if fast.token_to_id(token) is None]
        if missing:
            raise ValueError(f"the vocabulary lacks {missing}; BERT needs {list(SPECIAL_TOKENS)}")
        fast.no_padding()
        fast.no_truncation()
        self.fast = fast
        self.settings = dict(settings or {})
        check_settings(self.settings)
        complete(fast, self.settings)
        ids = [fast.token_to_id(token) for token in SPECIAL_TOKENS]
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            found for found in ids if found is not None
        )

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """Read tokenizer.json, or vocab.txt with what stands beside it: the settings of
        tokenizer_config.json, and the tokens that were added to the vocabulary."""
        folder = Path(folder).expanduser()
        full, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
        config, names = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
        settings = read_json(config, dict[str, Any]) if config.exists() else {}
        older = names.exists() and "added_tokens_decoder" not in settings
        special = read_json(names, dict[str, Any]) if older else {}
        if full.exists():
            path = str(regular(full, MOST_TEXT))
            try:
                fast = FastTokenizer.from_file(path)
            except Exception as error:  # the library raises bare Exception
                raise ValueError(f"{full} is not a tokenizer file: {brief(error)}") from None
        elif vocabulary.exists():
            fast = cls.from_vocab(vocabulary).fast
            _add_tokens(fast, folder, settings, special)
        else:
            raise ValueError(f"{folder} has neither tokenizer.json nor vocab.txt")
        settings |= _without_flags(special)
        if not full.exists() and settings.get("tokenizer_class") in GENERIC:
            del settings["tokenizer_class"]  # there is nothing else that it could follow
        try:
            return cls(fast, settings)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from None

    @classmethod
    def from_vocab(cls, path: str | Path, *, lowercase: bool = True) -> Tokenizer:
        """Read a vocab.txt: one token a line, its id the line's number from 0."""
        path = Path(path).expanduser()
        text = read_text(path)
        tokens = text.removesuffix("\n").split("\n")  # splitlines would also split at U+2028
        if len(set(tokens)) != len(tokens):
            twice = next(t for n, t in enumerate(tokens) if t in tokens[:n])
            raise ValueError(f"{path} lists {twice!r} twice; a token has one line")
        missing = [token for token in SPECIAL_TOKENS if token not in tokens]
        if missing:
            raise ValueError(f"{path} lacks {missing}; BERT needs {list(SPECIAL_TOKENS)}")
        return cls.from_tokens(tokens, lowercase=lowercase)

    @classmethod
    def from_tokens(cls, tokens: Sequence[str], *, lowercase: bool = True) -> Tokenizer:
        """WordPiece with these tokens, each with its place as its id."""
        vocabulary = {token: n for n, token in enumerate(tokens)}
        wordpiece = BertWordPieceTokenizer(vocab=vocabulary, lowercase=lowercase)
        fast = FastTokenizer.from_str(wordpiece.to_str())
        return cls(fast, {"do_lower_case": lowercase, "tokenizer_class": "BertTokenizer"})

    def __len__(self) -> int:
        return self.fast.get_vocab_size()

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
    ) -> Encodings:
        """Encode texts, or pairs of texts.

        Args:
            texts: the texts, or the first of each pair.
            pairs: the second of each pair.
            max_length: longest row in tokens, [CLS] and [SEP] included; the longer text of a
                pair is cut first. `Encodings.cut` lists the rows that were cut.
        """
        texts, pairs = texts_of(texts), None if pairs is None else texts_of(pairs, "pairs")
        if pairs is not None and len(pairs) != len(texts):
            raise ValueError(f"{len(texts)} first texts and {len(pairs)} second ones do not pair")
        least = 3 if pairs is None else 5
        if max_length is not None and max_length < least:
            raise ValueError(
                f"max_length {max_length} leaves no room for a word between the special tokens; "
                f"use at least {least}"
            )
        rows = texts if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self.fast.encode_batch_fast(rows)
        cut: tuple[int, ...] = ()
        if max_length is not None and any(len(e) > max_length for e in encodings):
            cut = tuple(row for row, e in enumerate(encodings) if len(e) > max_length)
            side = self.settings.get("truncation_side", "right")
            self.fast.enable_truncation(max_length, strategy="longest_first", direction=side)
            encodings = self.fast.encode_batch_fast(rows)
            self.fast.no_truncation()
        return Encodings([e.ids for e in encodings], [e.type_ids for e in encodings], cut)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return self.fast.decode(list(ids))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The token of each id; nothing, "", for an id that has none."""
        return [self.fast.id_to_token(i) or "" for i in ids]

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, and for WordPiece vocab.txt, as
        transformers reads them."""
        folder = Path(folder).expanduser()
        write_text(folder / "tokenizer.json", self.fast.to_str(pretty=True))
        added = sorted(self.fast.get_added_tokens_decoder().items())
        flags = {number: token.__getstate__() for number, token in added}
        if isinstance(self.fast.model, WordPiece):
            by_id = sorted(self.fast.get_vocab().items(), key=lambda item: item[1])
            write_text(folder / "vocab.txt", "".join(f"{token}\n" for token, _ in by_id))
            settings = {"tokenizer_class": "BertTokenizer", **self.settings, **ROLES}
            for setting, own in NORMALIZER.items():
                settings[setting] = getattr(self.fast.normalizer, own, False)
        else:
            own = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": MODEL_INPUTS}
            settings = {**own, **self.settings, **ROLES}
        write_json(folder / "tokenizer_config.json", {**settings, "added_tokens_decoder": flags})


def _add_tokens(
    fast: FastTokenizer, folder: Path, settings: dict[str, Any], special: dict[str, Any]
) -> None:
    """Add what a folder lists beside vocab.txt, as transformers does: the tokens with an id, in the
    order of their ids, then the special tokens that are still unknown.

    Args:
        fast: the tokens of vocab.txt.
        folder: may have the ids in added_tokens.json, if they are not in the settings.
        settings: tokenizer_config.json.
        special: special_tokens_map.json, which names special tokens too.

    Raises:
        ValueError: a token has an id that it cannot get after those of vocab.txt.
    """
    source = folder / "tokenizer_config.json"
    try:
        named, others = _special_tokens(settings | special)
        if "added_tokens_decoder" in settings:
            listed = settings["added_tokens_decoder"].items()
            numbered = [(int(n), AddedToken(**flags)) for n, flags in listed]
        else:
            source = folder / "added_tokens.json"
            # Other tokens are looked for in the normalized text: [ENT] is found in "[ent]" too.
            verbatim = _contents([*named, *_special_tokens(settings)[1]])
            listed = (read_json(source, dict[str, int]) if source.exists() else {}).items()
            numbered = [(n, AddedToken(t, normalized=t not in verbatim)) for t, n in listed]
        numbered.sort(key=lambda pair: pair[0])
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{source} does not list tokens as transformers does: {error}") from None
    tokens = [token for _, token in numbered]
    known, all_special = _contents(tokens), {*SPECIAL_TOKENS, *_contents(named + others)}
    for token in tokens:
        token.special |= token.content in all_special
    fast.add_tokens(tokens + [t for t in named + others if t.content not in known])
    for n, token in numbered:
        found = fast.token_to_id(token.content)
        if found != n:
            raise ValueError(
                f"{source} gives {token.content!r} the id {n}, and after the tokens of vocab.txt "
                f"it gets {found}; mend the id, or restore the vocab.txt that belongs to it"
            )


def _special_tokens(settings: dict[str, Any]) -> tuple[list[AddedToken], list[AddedToken]]:
    """The special tokens that settings name: those with a role, such as bos_token, and others."""
    names = dict.fromkeys(("bos_token", "eos_token", *settings))  # the order of transformers
    named = [settings.get(name) for name in names if name.endswith("_token")]
    others = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    if isinstance(others, dict):  # role -> token
        named, others = [*named, *others.values()], []
    return _as_special(named), _as_special(others)


def _as_special(tokens: list[Any]) -> list[AddedToken]:
    """Tokens that are given as texts, or as dictionaries of flags; other settings are left out."""
    given = [{"content": token} if isinstance(token, str) else token for token in tokens]
    flagged: list[dict[str, Any]] = [
        {**flags, "special": True} for flags in given if isinstance(flags, dict)
    ]
    return [AddedToken(**{k: v for k, v in f.items() if k != "__type"}) for f in flagged]


def _without_flags(special: Any) -> Any:
    """special_tokens_map.json as tokenizer_config.json has it: the texts of the tokens alone."""
    if isinstance(special, dict):
        return special.get("content") or {k: _without_flags(v) for k, v in special.items()}
    return [_without_flags(token) for token in special] if isinstance(special, list) else special


def _contents(tokens: list[AddedToken]) -> set[str]:
    return {token.content for token in tokens}
