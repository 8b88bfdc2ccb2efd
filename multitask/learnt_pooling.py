"""From tokens to a vector for each sequence, by what a task learns: see heads.py for other ways.

B rows, H hidden size of the encoder; "..." is (B, S) in a padded batch and (T,) in a packed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from minbert.encoder import EncoderOutput


class AttentionPooling(nn.Module):
    """Σ_t a_t h_t with a = softmax(q·h_t / √H) over a sequence's real tokens; q is learnt.

    The attention of one query (Yang et al., 2016, "Hierarchical attention networks", without their
    layer before it). q is zero at first, which makes it the mean.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, output: EncoderOutput) -> Tensor:
        tokens, layout = output.last_hidden_state, output.layout
        scores = (tokens @ self.query / tokens.size(-1) ** 0.5).unsqueeze(-1)  # (..., 1)
        # Of real tokens none is above 0; what padding has does not count, and must not overflow.
        scores = (scores - layout.spread(layout.max(scores.detach()))).clamp(max=0)
        weights = scores.exp()
        return layout.mean(weights * tokens) / layout.mean(weights)  # (B, H)


LEARNT: Mapping[str, Callable[[int], nn.Module]] = {"attention": AttentionPooling}
"""Name -> what is made for a hidden size, and pools as POOLINGS do with parameters of its own."""


class LayerMix(nn.Module):
    """γ Σ_l softmax(s)_l h_l over the embeddings and all layers; s and γ are learnt.

    Peters et al. (2018, ELMo), arXiv:1802.05365, equation 1. s is zero at first, the mean of all.
    """

    def __init__(self, states: int) -> None:
        """For so many states, one more than there are layers."""
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(states))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, output: EncoderOutput) -> EncoderOutput:
        """The output with the mix in place of the last layer's."""
        if output.hidden_states is None:
            raise ValueError("layers are mixed of hidden_states; call with output_hidden_states")
        shares = self.scale * self.scores.softmax(dim=0)
        mixed = sum(share * h for share, h in zip(shares, output.hidden_states, strict=True))
        assert isinstance(mixed, Tensor)
        return replace(output, last_hidden_state=mixed)
