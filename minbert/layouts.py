"""How a batch lies in memory: padded to a rectangle, or packed without padding.

Only attention mixes tokens, so only attention needs to know where one sequence ends and the next
begins. A `Layout` answers that, and everything else in an encoder works on any leading dimensions:

    Padded   (B, S, H)  every sequence filled up to the longest; a mask says which tokens are real
    Packed   (T, H)     all real tokens, one sequence after the other, and no padding at all

Both give the same numbers. Packed does no work on padding, which in batches of random rows is
about half of all tokens.

B batch, S longest sequence, T tokens in all, H hidden size
"""

from __future__ import annotations

import copy
import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from minbert.files import brief
from minbert.transfer import to_device

L = TypeVar("L", bound="Layout")
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
    prefix: tuple[Tensor, Tensor] | None = None
    """Keys and values (L, A) that each sequence's tokens may attend to beside their own: L of them,
    A the size of a key. They take no places, and nothing but `attend` looks at them."""

    @property
    @abstractmethod
    def real_tokens(self) -> Tensor:
        """(T,) where the real tokens are among all of `shape`, laid end to end."""

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

    @abstractmethod
    def spread(self, x: Tensor) -> Tensor:
        """A number or vector of each sequence, (B, ...), at each of its tokens; padding has it
        too."""

    def with_prefix(self: L, keys: Tensor, values: Tensor) -> L:
        """This layout with a `prefix`."""
        prefixed = copy.copy(self)
        prefixed.prefix = keys, values
        return prefixed

    def to(self: L, device: torch.device | str) -> L:
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
        self.mask = _checked_mask(torch.as_tensor(attention_mask))
        self.batch_size, self.max_length = self.shape = tuple(self.mask.shape)
        self.positions = torch.arange(self.max_length, device=self.mask.device).expand(self.shape)

    @property
    def real_tokens(self) -> Tensor:
        return self.mask.flatten().nonzero().squeeze(1)

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

    def spread(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1).expand(*self.shape, *x.shape[1:])


class Packed(Layout):
    """Sequences one after the other, without padding: T is the sum of their lengths.

    Attention by one kernel takes them so (minbert/flash.py). Where it wants rectangles,
    `per_sequence` pads: on a CPU sequences of about equal length together, for a few small
    rectangles hold much less padding than one large one; elsewhere all of them, for a call costs
    a GPU's host more than padding costs the GPU.
    """

    def __init__(self, lengths: Sequence[int], *, groups: list[list[int]] | None = None) -> None:
        """Make the layout of sequences of these lengths.

        Args:
            lengths: tokens of each sequence, at least one each.
            groups: the sequences that share a rectangle; by default as said above.
        """
        try:
            lengths = [operator.index(length) for length in lengths]
        except TypeError:
            raise ValueError(f"lengths must be whole numbers, they are {brief(lengths)}") from None
        if len(lengths) == 0 or min(lengths) < 1:
            raise ValueError(
                f"a packed batch needs sequences of at least one token, lengths are {lengths}; "
                "leave empty ones out"
            )
        self._lengths, self._groups = lengths, groups
        self.lengths = torch.tensor(self._lengths)  # (B,)
        self.batch_size, self.max_length = len(self._lengths), max(self._lengths)
        self.shape = (sum(self._lengths),)
        self.starts = self.lengths.cumsum(0) - self.lengths  # (B,)
        # Where each sequence begins and the last one ends, as flash attention wants it: (B + 1,).
        self.offsets = nn.functional.pad(self.lengths.cumsum(0), (1, 0)).int()
        self.owner = torch.arange(self.batch_size).repeat_interleave(self.lengths)  # (T,)
        self.positions = torch.arange(self.shape[0]) - self.starts[self.owner]  # (T,)

    @property
    def real_tokens(self) -> Tensor:
        return torch.arange(self.shape[0], device=self.positions.device)

    def to(self, device: torch.device | str) -> Packed:
        moved = super().to(device)
        vars(moved).pop("_rectangles", None)  # of another device
        return moved

    @functools.cached_property
    def _rectangles(self) -> Rectangles:
        """Made when first wanted, which a kernel for packed sequences never does."""
        device = self.lengths.device
        groups = self._groups
        if groups is None and device.type == "cpu":
            groups = groups_of_equal_length(self._lengths)
        with torch.inference_mode(False):  # for use in training too
            return Rectangles(self._lengths, groups or [list(range(self.batch_size))], device)

    def per_sequence(self, attend: Attend, *tokens: Tensor) -> Tensor:
        rectangles = self._rectangles
        sizes = [rows * width for rows, width in rectangles.shapes]
        by_rectangle = zip(
            rectangles.shapes,
            rectangles.real.split(sizes),
            *(rectangles.take(x, rectangles.cells).split(sizes) for x in tokens),
            strict=True,
        )
        outputs = [
            attend(*(x.unflatten(0, shape) for x in padded), real.view(shape)).flatten(0, 1)
            for shape, real, *padded in by_rectangle
        ]
        return rectangles.take(torch.cat(outputs), rectangles.home)  # (T, H)

    def whole(self) -> Packed:
        one_group = Packed(self._lengths, groups=[list(range(self.batch_size))])
        return one_group.to(self.lengths.device)

    def with_sequence(self, length: int) -> Packed:
        """The layout of these sequences and one more, with its tensors on the CPU."""
        return Packed([*self._lengths, length])

    def to_padded(self, x: Tensor) -> Tensor:
        return nn.utils.rnn.pad_sequence(list(x.split(self._lengths)), batch_first=True)

    def first(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.starts)

    def mean(self, x: Tensor) -> Tensor:
        low = x.dtype in (torch.bfloat16, torch.float16)  # in which a long sum loses its last terms
        tokens = x.float() if low else x
        total = tokens.new_zeros(self.batch_size, x.size(-1)).index_add(0, self.owner, tokens)
        return (total / self.lengths.unsqueeze(-1).to(total.dtype)).to(x.dtype)

    def max(self, x: Tensor) -> Tensor:
        return torch.stack([tokens.amax(dim=0) for tokens in x.split(self._lengths)])

    def spread(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.owner)

    def with_prefix(self, keys: Tensor, values: Tensor) -> Packed:
        _ = self._rectangles  # made once for all layers, each of which has a prefix of its own
        return super().with_prefix(keys, values)


class Rectangles:
    """Where the tokens of packed sequences stand in rectangles.

    Each rectangle lists, row by row, the tokens it holds. `cells` are all rectangles laid end to
    end, and `home` says in which cell each token stands. A padding cell repeats its row's first
    token: it is masked as a key, and dropped as a query.
    """

    def __init__(self, lengths: list[int], groups: list[list[int]], device: torch.device) -> None:
        """Lay out sequences of these lengths, those of a group in one rectangle."""
        self.shapes: list[tuple[int, int]] = []
        each = torch.tensor(lengths)
        starts = each.cumsum(0) - each
        cells, real = [], []
        for rows in groups:
            width = max(lengths[row] for row in rows)
            self.shapes.append((len(rows), width))
            column = torch.arange(width)
            inside = column < each[rows].unsqueeze(1)  # (rows, width)
            cells.append((starts[rows].unsqueeze(1) + column * inside).flatten())
            real.append(inside.flatten())
        all_cells, all_real = torch.cat(cells), torch.cat(real)
        home = torch.empty(sum(lengths), dtype=torch.long)
        home[all_cells[all_real]] = all_real.nonzero().squeeze(1)
        self._in_order = torch.equal(all_cells, torch.arange(len(home)))
        self.cells, self.real, self.home = (
            to_device(x, device) for x in (all_cells, all_real, home)
        )

    def take(self, x: Tensor, places: Tensor) -> Tensor:
        """x[places], which is x where the rectangles hold the tokens as they come."""
        return x if self._in_order else x.index_select(0, places)


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
