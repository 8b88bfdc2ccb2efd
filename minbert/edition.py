"""What a student's copy has otherwise than the library; lab/handout.py writes the copy's own file.

The values of this one are the library's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minbert.encoders.convbert import ConvBert, ConvBertConfig
    from minbert.encoders.modernbert import ModernBert
    from minbert.encoders.modernbert_config import ModernBertConfig

VERSION = "0.1.0"
"""Of the library, also where a copy was made from it."""
COMMIT = "$Format:%H$"
"""What the files are of, which `git archive` puts here (.gitattributes), and who makes a copy."""
PLAIN = False
"""Whether training goes through the steps as they are written out, unless it is told otherwise."""
ENCODERS = {
    "ConvBert": "encoders.convbert",
    "ConvBertConfig": "encoders.convbert",
    "ModernBert": "encoders.modernbert",
    "ModernBertConfig": "encoders.modernbert_config",
}
"""Public name -> module of minbert, of the encoders that may be left out of a copy."""

__all__ = ["ConvBert", "ConvBertConfig", "ModernBert", "ModernBertConfig"]
