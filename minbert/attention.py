"""Scaled dot-product attention, what newer encoders put beside it, and how a batch lies in memory.

Only attention mixes tokens, so only attention needs to know where one sequence ends and the next
begins. A `Layout` answers that, and everything else in an encoder works on any leading dimensions:

    Padded   (B, S, H)  every sequence filled up to the longest; a mask says which tokens are real
    Packed   (T, H)     all real tokens, one sequence after the other, and no padding at all

Both give the same numbers. Packed does no work on padding, which in batches of random rows is
about half of all tokens.

B batch, S longest sequence, T tokens in all, N heads, D head size, H = N * D hidden size
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from minbert.transfer import to_device


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: nn.Module
) -> tuple[Tensor, Tensor]:
    """softmax(Q Kᵀ / √D) V, equation 1 of Vaswani et al. (2017), arXiv:1706.03762.

    Args:
        query, key, value: (B, N, S, D).
        mask: bool, broadcastable to (B, N, S, S); True where a token may be attended to.
        dropout: applied to the attention probabilities.

    Returns:
        The context (B, N, S, D) and the probabilities before dropout (B, N, S, S).
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # (B, N, S, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    probabilities = scores.softmax(dim=-1)  # each query's row sums to 1
    return dropout(probabilities) @ value, probabilities


def key_mask(mask: Tensor) -> Tensor:
    """(B, S) -> (B, 1, 1, S): real tokens as the keys that any head and query may attend to."""
    return mask[:, None, None, :]


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, S, H) -> (B, N, S, D): head n is the n-th slice of D features."""
    batch, length, hidden = x.shape
    return x.view(batch, length, num_heads, hidden // num_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, N, S, D) -> (B, S, H): the inverse of `split_heads`."""
    batch, num_heads, length, head_size = x.shape
    return x.transpose(1, 2).reshape(batch, length, num_heads * head_size)


# Rotary positions


def rope_angles(positions: Tensor, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of p θ^(-2i/D) for each position p and i < D/2: Su et al., arXiv:2104.09864.

    Args:
        positions: each token's place in its sequence, of any shape (...).
        head_size: D, even.
        theta: the base; the larger, the slower the last features turn.

    Returns:
        Two tensors (..., D/2) in float32, whatever the model computes in: in bfloat16, places
        beyond 256 could not be told apart.
    """
    exponents = torch.arange(0, head_size, 2, device=positions.device).float() / head_size
    frequencies = 1.0 / theta**exponents  # (D/2,)
    angles = positions.unsqueeze(-1).float() * frequencies  # (..., D/2)
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of features (x_i, x_{i + D/2}), as a point in the plane, by its angle.

    The dot product of a query and a key then depends on the distance of their places alone.

    Args:
        x: queries or keys (..., N, D).
        cos, sin: (..., D/2), from `rope_angles`.
    """
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)  # (..., 1, D/2): the same in every head
    first, second = x.chunk(2, dim=-1)  # (..., N, D/2)
    turned = (first * cos - second * sin, first * sin + second * cos)
    return torch.cat(turned, dim=-1).to(x.dtype)  # (..., N, D)


# Local attention


def local_mask(mask: Tensor, window: int) -> Tensor:
    """Where a token may be attended to: up to `window` places away, |i - j| ≤ w, and real.

    Args:
        mask: (B, 1, 1, S) bool, True at real tokens.
        window: w, places on either side.

    Returns:
        (B, 1, S, S). Each token sees itself, so that padding far from real tokens sees something:
        the softmax over nothing is not a number, and would spread.
    """
    places = torch.arange(mask.size(-1), device=mask.device)  # (S,)
    return within_window(places, places, mask, window)


def within_window(queries: Tensor, keys: Tensor, real: Tensor, window: int) -> Tensor:
    """Whether a query at each place i may attend to a key at each place j: |i - j| ≤ w and real.

    Args:
        queries, keys: places (Q,) and (K,).
        real: bool, broadcastable to (..., Q, K); True where the key is a real token.
        window: w, places on either side.

    Returns:
        (..., Q, K); True at i = j, real or not.
    """
    distance = (queries.unsqueeze(1) - keys).abs()  # (Q, K)
    return (distance <= window) & real | (distance == 0)


def local_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, window: int, dropout: nn.Module
) -> tuple[Tensor, Tensor]:
    """Attention to near tokens (Beltagy et al., 2020, arXiv:2004.05150), step by step.

    As `scaled_dot_product_attention`, with the mask of `local_mask`: all S² scores are computed,
    and most of them masked.
    """
    return scaled_dot_product_attention(query, key, value, local_mask(mask, window), dropout)


def local_attention_in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    window: int,
    attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """The context of `local_attention` in time and memory that grow with S, not with S².

    Cut the sequence into blocks of w places. What a block's queries may see lies in the block
    itself and the two beside it, so each block becomes a short row of a larger batch: w queries,
    3 w keys.

    Args:
        query, key, value: (B, N, S, D).
        mask: (B, 1, 1, S) bool, True at real tokens.
        window: w, at least 1.
        attend: attention of (B, N, w, D) to (B, N, 3 w, D) under a mask (B, 1, w, 3 w).

    Returns:
        (B, N, S, D).
    """
    batch, _, length, _ = query.shape
    blocks = math.ceil(length / window)

    def cut(x: Tensor) -> Tensor:
        """(B, S, ...) -> (B, blocks, w, ...), the last block filled up with zeros."""
        padding = [0, 0] * (x.dim() - 2) + [0, blocks * window - length]
        return nn.functional.pad(x, padding).unflatten(1, (blocks, window))

    def with_neighbours(x: Tensor) -> Tensor:
        """(B, blocks, w, ...) -> (B, blocks, 3 w, ...): the block before, its own, the next."""
        x = nn.functional.pad(x, [0, 0] * (x.dim() - 2) + [1, 1])
        return torch.cat([x[:, :-2], x[:, 1:-1], x[:, 2:]], dim=2)

    def as_batch(x: Tensor) -> Tensor:
        """(B, blocks, w, N, D) -> (B * blocks, N, w, D)."""
        return x.flatten(0, 1).transpose(1, 2)

    queries = as_batch(cut(query.transpose(1, 2)))
    keys, values = (as_batch(with_neighbours(cut(x.transpose(1, 2)))) for x in (key, value))
    real = with_neighbours(cut(mask[:, 0, 0])).flatten(0, 1)  # (B * blocks, 3 w)
    places = torch.arange(3 * window, device=mask.device)
    own = places[window : 2 * window]  # of the block in the middle
    allowed = within_window(own, places, real[:, None, None, :], window)  # (..., w, 3 w)
    context = attend(queries, keys, values, allowed)  # (B * blocks, N, w, D)
    context = context.transpose(1, 2).unflatten(0, (batch, blocks)).flatten(1, 2)
    return context[:, :length].transpose(1, 2)


# Dynamic convolution


def dynamic_convolution(value: Tensor, kernel: Tensor) -> Tensor:
    """y[s, n] = Σ_k kernel[s, n, k] value[s + k - K // 2, n], with zeros beyond both ends.

    The core of span-based dynamic convolution (Jiang et al., 2020, arXiv:2008.02496): every place
    has a kernel of its own.

    It is attention with weights on a band of K diagonals only, and computed as such: the matrix of
    N S² weights is smaller than the N S D K numbers of the windows, up to S = D K.

    Args:
        value: (B, S, A), N heads side by side.
        kernel: (B, S, N, K), each head's weights at each place; K is odd.

    Returns:
        (B, S, A).
    """
    length, size = kernel.size(1), kernel.size(3)
    value = nn.functional.pad(value, (0, 0, size // 2, size // 2))  # (B, S + K - 1, A)
    # Rows of K weights and S zeros, read as rows of one number less: each starts one further right.
    band = nn.functional.pad(kernel.transpose(1, 2), (0, length)).flatten(2)  # (B, N, S * (K + S))
    band = band[..., :-length].unflatten(2, (length, -1))  # (B, N, S, S + K - 1)
    return merge_heads(band @ split_heads(value, kernel.size(2)))


# Layouts

Attend = Callable[..., Tensor]
"""attend(*tokens each (B, S, ...), mask (B, S) or None) -> (B, S, H)"""


class Layout(ABC):
    """Where the tokens of each sequence of a batch lie."""

    batch_size: int
    shape: tuple[int, ...]
    """Shape of the token ids: (B, S) or (T,)."""
    positions: Tensor
    """Each token's place in its own sequence, from 0; int64 of `shape`."""
    max_length: int
    """Places that the longest sequence takes."""

    @abstractmethod
    def per_sequence(self, attend: Attend, *tokens: Tensor) -> Tensor:
        """Call `attend(*tokens, mask)` with the tokens of each sequence in a row of its own.

        `mask` is True at real tokens, or None where there is no padding. What `attend` returns
        comes back in this layout: (B, S, H) or (T, H).
        """

    @abstractmethod
    def whole(self) -> Layout:
        """The layout whose `per_sequence` calls `attend` once, with the batch in its own order."""

    @abstractmethod
    def to_padded(self, x: Tensor) -> Tensor:
        """Tokens of this layout as (B, S, ...), with zeros at padding."""

    @abstractmethod
    def first(self, x: Tensor) -> Tensor:
        """Each sequence's first token, which is [CLS]: (B, H)."""

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """Mean over each sequence's real tokens: (B, H)."""

    @abstractmethod
    def max(self, x: Tensor) -> Tensor:
        """Maximum over each sequence's real tokens, feature by feature: (B, H)."""

    def to(self, device: torch.device | str) -> Layout:
        """This layout with its tensors on `device`."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, to_device(value, device))
        return moved


class Padded(Layout):
    """Sequences filled up to the longest with padding, which `attention_mask` marks as 0."""

    def __init__(self, attention_mask: Tensor) -> None:
        """Make the layout of a mask (B, S), bool or integers: 1 at real tokens, 0 at padding.

        Raises:
            ValueError: wrong number of dimensions, dtype or values, or a row of padding only.
        """
        self.mask = _checked_mask(attention_mask)
        self.batch_size, self.max_length = self.shape = tuple(self.mask.shape)
        self.positions = torch.arange(self.max_length, device=self.mask.device).expand(self.shape)

    def per_sequence(self, attend: Attend, *tokens: Tensor) -> Tensor:
        return attend(*tokens, self.mask)

    def whole(self) -> Padded:
        return self

    def to_padded(self, x: Tensor) -> Tensor:
        return x * self.mask.view(*self.shape, *[1] * (x.dim() - 2))

    def first(self, x: Tensor) -> Tensor:
        return x[:, 0]

    def mean(self, x: Tensor) -> Tensor:
        mask = self.mask.unsqueeze(-1).to(x.dtype)  # (B, S, 1)
        return (x * mask).sum(dim=1) / mask.sum(dim=1)

    def max(self, x: Tensor) -> Tensor:
        return x.masked_fill(~self.mask.unsqueeze(-1), float("-inf")).amax(dim=1)


class Packed(Layout):
    """Sequences one after the other, without padding: T is the sum of their lengths.

    Attention still wants rectangles, so `per_sequence` pads sequences of about equal length
    together: a few small rectangles hold much less padding than one large one.
    """

    def __init__(self, lengths: Sequence[int], *, groups: list[list[int]] | None = None) -> None:
        """Make the layout of sequences of these lengths.

        Args:
            lengths: tokens of each sequence, at least one each.
            groups: the sequences that share a rectangle; by default those of about equal length.
        """
        if len(lengths) == 0 or min(lengths) < 1:
            raise ValueError(
                f"a packed batch needs sequences of at least one token, lengths are "
                f"{list(lengths)}; leave empty ones out"
            )
        self._lengths = list(lengths)
        self.lengths = torch.tensor(self._lengths)  # (B,)
        self.batch_size = len(self._lengths)
        self.min_length, self.max_length = min(self._lengths), max(self._lengths)
        self.shape = (sum(self._lengths),)
        self.starts = self.lengths.cumsum(0) - self.lengths  # (B,)
        # Where each sequence begins and the last one ends, as flash attention wants it: (B + 1,).
        self.offsets = nn.functional.pad(self.lengths.cumsum(0), (1, 0)).int()
        self.owner = torch.arange(self.batch_size).repeat_interleave(self.lengths)  # (T,)
        self.positions = torch.arange(self.shape[0]) - self.starts[self.owner]  # (T,)

        # Each rectangle lists, row by row, the tokens it holds. `cells` are all rectangles laid
        # end to end, and `home` says in which cell each token stands. A padding cell repeats its
        # row's first token: it is masked as a key, and dropped as a query.
        self._rectangles: list[tuple[int, int]] = []
        cells, real = [], []
        for rows in groups or groups_of_equal_length(self._lengths):
            width = max(self._lengths[row] for row in rows)
            self._rectangles.append((len(rows), width))
            column = torch.arange(width)
            inside = column < self.lengths[rows].unsqueeze(1)  # (rows, width)
            cells.append((self.starts[rows].unsqueeze(1) + column * inside).flatten())
            real.append(inside.flatten())
        self.cells, self.real = torch.cat(cells), torch.cat(real)
        self.home = torch.empty(self.shape, dtype=torch.long)
        self.home[self.cells[self.real]] = self.real.nonzero().squeeze(1)
        self._in_order = torch.equal(self.cells, torch.arange(self.shape[0]))

    def per_sequence(self, attend: Attend, *tokens: Tensor) -> Tensor:
        sizes = [rows * width for rows, width in self._rectangles]
        by_rectangle = zip(
            self._rectangles,
            self.real.split(sizes),
            *(self._take(x, self.cells).split(sizes) for x in tokens),
            strict=True,
        )
        outputs = [
            attend(*(x.unflatten(0, shape) for x in padded), real.view(shape)).flatten(0, 1)
            for shape, real, *padded in by_rectangle
        ]
        return self._take(torch.cat(outputs), self.home)  # (T, H)

    def _take(self, x: Tensor, places: Tensor) -> Tensor:
        """x[places], which is x where the rectangles hold the tokens as they come."""
        return x if self._in_order else x.index_select(0, places)

    def whole(self) -> Packed:
        one_group = Packed(self._lengths, groups=[list(range(self.batch_size))])
        return one_group.to(self.lengths.device)

    def to_padded(self, x: Tensor) -> Tensor:
        return nn.utils.rnn.pad_sequence(x.split(self._lengths), batch_first=True)

    def first(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.starts)

    def mean(self, x: Tensor) -> Tensor:
        total = x.new_zeros(self.batch_size, x.size(-1)).index_add(0, self.owner, x)
        return total / self.lengths.unsqueeze(-1).to(x.dtype)

    def max(self, x: Tensor) -> Tensor:
        return torch.stack([tokens.amax(dim=0) for tokens in x.split(self._lengths)])


def groups_of_equal_length(lengths: Sequence[int], *, stretch: float = 1.5) -> list[list[int]]:
    """Split sequences into groups whose longest is at most about `stretch` times the shortest.

    Short sequences (up to 32 tokens) share one group: their padding costs less than a group.
    """
    groups: list[list[int]] = []
    limit = 0.0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if lengths[row] > limit:
            groups.append([])
            limit = max(32, stretch * lengths[row])
        groups[-1].append(row)
    return groups


def _checked_mask(mask: Tensor) -> Tensor:
    if mask.dim() != 2:
        raise ValueError(
            f"attention_mask must have shape (batch, length), not {tuple(mask.shape)}; "
            "the encoder itself adds the dimensions for heads and queries"
        )
    if mask.dtype.is_floating_point or mask.dtype.is_complex:
        raise ValueError(
            f"attention_mask must be bool or integers 0 and 1, not {mask.dtype}; an additive mask "
            "of 0 and -inf is not accepted: pass (mask == 0) in its place"
        )
    if mask.dtype != torch.bool:
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(
                f"attention_mask must hold 0 and 1 only, it has values from {int(mask.min())} to "
                f"{int(mask.max())}; pass (input_ids != pad_token_id)"
            )
        mask = mask.bool()
    empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"attention_mask has no real token in rows {empty[:10]}; leave empty sequences out"
        )
    return mask
