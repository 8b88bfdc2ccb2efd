"""The public names of the encoders beside BERT; a student's copy has none, and its own file.

`minbert/__init__.py` imports them when they are first used, so that this file needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minbert.encoders.convbert import ConvBert, ConvBertConfig
    from minbert.encoders.modernbert import ModernBert
    from minbert.encoders.modernbert_config import ModernBertConfig

HOMES = {
    "ConvBert": "encoders.convbert",
    "ConvBertConfig": "encoders.convbert",
    "ModernBert": "encoders.modernbert",
    "ModernBertConfig": "encoders.modernbert_config",
}
"""Public name -> its module of minbert."""

__all__ = ["ConvBert", "ConvBertConfig", "ModernBert", "ModernBertConfig"]
