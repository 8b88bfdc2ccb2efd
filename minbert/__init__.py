"""minbert: BERT and its family by hand, small enough to read.

The names below are imported when first used, so that `minbert --help` starts without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from minbert import edition, other_encoders

if TYPE_CHECKING:
    from minbert.embedding import embed
    from minbert.encoder import Encoder, EncoderOutput
    from minbert.encoders.bert import Bert, BertConfig
    from minbert.layouts import Packed, Padded
    from minbert.loading import Backbone, load_backbone, save_pretrained
    from minbert.other_encoders import *  # noqa: F403
    from minbert.tokenization import Tokenizer

_HOMES = {
    "Packed": "layouts",
    "Padded": "layouts",
    "Encoder": "encoder",
    "EncoderOutput": "encoder",
    "embed": "embedding",
    "Bert": "encoders.bert",
    "BertConfig": "encoders.bert",
    "Backbone": "loading",
    "load_backbone": "loading",
    "save_pretrained": "loading",
    "Tokenizer": "tokenization",
    **other_encoders.HOMES,
}

__version__ = edition.VERSION
__all__ = [
    "Backbone",
    "Bert",
    "BertConfig",
    "Encoder",
    "EncoderOutput",
    "Packed",
    "Padded",
    "Tokenizer",
    "embed",
    "load_backbone",
    "save_pretrained",
]
__all__ += other_encoders.__all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'minbert' has no attribute {name!r}")
    return getattr(importlib.import_module(f"minbert.{_HOMES[name]}"), name)
