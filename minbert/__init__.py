"""minbert: BERT and its family by hand, small enough to read.

The names below are imported when first used, so that `minbert --help` starts without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minbert.embedding import embed
    from minbert.encoder import Encoder, EncoderOutput
    from minbert.encoders.bert import Bert, BertConfig
    from minbert.encoders.convbert import ConvBert, ConvBertConfig
    from minbert.encoders.modernbert import ModernBert
    from minbert.encoders.modernbert_config import ModernBertConfig
    from minbert.layouts import Packed, Padded
    from minbert.loading import Backbone, load_backbone, save_pretrained
    from minbert.tokenization import Tokenizer

_HOMES = {
    "Packed": "layouts",
    "Padded": "layouts",
    "Encoder": "encoder",
    "EncoderOutput": "encoder",
    "embed": "embedding",
    "Bert": "encoders.bert",
    "BertConfig": "encoders.bert",
    "ConvBert": "encoders.convbert",
    "ConvBertConfig": "encoders.convbert",
    "ModernBert": "encoders.modernbert",
    "ModernBertConfig": "encoders.modernbert_config",
    "Backbone": "loading",
    "load_backbone": "loading",
    "save_pretrained": "loading",
    "Tokenizer": "tokenization",
}

__version__ = "0.1.0"
__all__ = [
    "Backbone",
    "Bert",
    "BertConfig",
    "ConvBert",
    "ConvBertConfig",
    "Encoder",
    "EncoderOutput",
    "ModernBert",
    "ModernBertConfig",
    "Packed",
    "Padded",
    "Tokenizer",
    "embed",
    "load_backbone",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'minbert' has no attribute {name!r}")
    return getattr(importlib.import_module(f"minbert.{_HOMES[name]}"), name)
