"""Part 4, what newer encoders changed: right answers in float64, and mistakes."""

from __future__ import annotations

import torch
from torch import nn

from lab.answers import mistake, right

# Rotary positions


def turning(
    positions, head_size, theta, *, power=lambda i, d: 2 * i / d, start=0, up=False, twice=False
):
    """rope_angles with its parts open to change, in float64."""
    columns = []
    for i in range(head_size // 2):
        rate = theta ** power(i, head_size) if up else theta ** -power(i, head_size)
        columns.append((positions.double() + start) * rate)
    angles = torch.stack(columns * 2 if twice else columns, -1)
    return torch.cos(angles).float(), torch.sin(angles).float()


@right("rope", of="rope_angles")
def rope_angles(positions, head_size, theta):
    return turning(positions, head_size, theta)


@mistake("rope", "positions count from 1; they count from 0, where nothing turns", of="rope_angles")
def rope_from_one(positions, head_size, theta):
    return turning(positions, head_size, theta, start=1)


@mistake("rope", "the 2 is missing from the exponent -2i/D", of="rope_angles")
def exponent_halved(positions, head_size, theta):
    return turning(positions, head_size, theta, power=lambda i, d: i / d)


@mistake("rope", "the exponent is divided by D/2; it is -2i/D with the whole D", of="rope_angles")
def exponent_doubled(positions, head_size, theta):
    return turning(positions, head_size, theta, power=lambda i, d: 4 * i / d)


@mistake("rope", "the exponent's sign is wrong: later features turn slower", of="rope_angles")
def exponent_positive(positions, head_size, theta):
    return turning(positions, head_size, theta, up=True)


@mistake("rope", "all pairs turn at the same rate; theta to the -2i/D is missing", of="rope_angles")
def one_rate(positions, head_size, theta):
    return turning(positions, head_size, theta, power=lambda i, d: 0)


@mistake("rope", "sin and cos have changed places", of="rope_angles")
def sine_first(positions, head_size, theta):
    return turning(positions, head_size, theta)[::-1]


@mistake(
    "rope", "there are D angles; a pair of features shares one, so there are D/2", of="rope_angles"
)
def angles_twice(positions, head_size, theta):
    return turning(positions, head_size, theta, twice=True)


@mistake(
    "rope",
    "places are counted anew; take those in `positions`, which may begin again",
    of="rope_angles",
)
def places_counted(positions, head_size, theta):
    if positions.dim() == 0:
        return turning(positions, head_size, theta)
    counted = torch.arange(positions.size(-1)).expand(positions.shape)
    return turning(counted, head_size, theta)


def turned(x, cos, sin, *, sign=1, pairs="halves", crossed=True, dtype=True):
    """apply_rope with its parts open to change: each pair as a complex number."""
    half = x.size(-1) // 2
    y = x.double()
    a, b = (y[..., :half], y[..., half:]) if pairs == "halves" else (y[..., ::2], y[..., 1::2])
    cos, sin = cos.double()[..., None, :], sign * sin.double()[..., None, :]
    first, second = a * cos - b * sin, b * cos + (a if crossed else -a) * sin
    if pairs == "interleaved":
        both = torch.stack([first, second], -1).flatten(-2)
    else:
        both = torch.cat([first, second], -1)
    return both.to(x.dtype if dtype else torch.float32)


@right("rope", of="apply_rope")
def apply_rope(x, cos, sin):
    return turned(x, cos, sin)


@mistake(
    "rope", "pairs are neighbours, (x_0, x_1); here feature i goes with i + D/2", of="apply_rope"
)
def interleaved(x, cos, sin):
    return turned(x, cos, sin, pairs="interleaved")


@mistake(
    "rope",
    "pairs are neighbours going in and halves coming out; feature i goes with i + D/2",
    of="apply_rope",
)
def half_interleaved(x, cos, sin):
    return turned(x, cos, sin, pairs="into halves")


@mistake("rope", "the sign of the sine is wrong: the pairs turn the other way", of="apply_rope")
def turned_back(x, cos, sin):
    return turned(x, cos, sin, sign=-1)


@mistake("rope", "this is no rotation: one of the two sines has a minus, not both", of="apply_rope")
def mirrored(x, cos, sin):
    return turned(x, cos, sin, crossed=False)


@mistake("rope", "the dtype of x is lost: turn it back after float32 angles", of="apply_rope")
def dtype_lost(x, cos, sin):
    return turned(x, cos, sin, dtype=False)


# Local attention


def window_of(
    queries, keys, real, window, *, near=lambda d, w: abs(d) <= w, itself=True, padding=True
):
    """within_window with its parts open to change."""
    rows = [[near(int(i) - int(j), window) for j in keys] for i in queries]
    same = torch.tensor([[int(i) == int(j) for j in keys] for i in queries])
    allowed = torch.tensor(rows)
    allowed = torch.logical_and(allowed, real) if padding else allowed.expand_as(allowed & real)
    return torch.logical_or(allowed, same) if itself else allowed


@right("local_attention", of="within_window")
def within_window(queries, keys, real, window):
    return window_of(queries, keys, real, window)


@mistake(
    "local_attention",
    "the distance is strictly below w; at w itself a token still sees",
    of="within_window",
)
def strictly_below(queries, keys, real, window):
    return window_of(queries, keys, real, window, near=lambda d, w: abs(d) < w)


@mistake(
    "local_attention",
    "the window has one side: a token sees as far to its right",
    of="within_window",
)
def left_only(queries, keys, real, window):
    return window_of(queries, keys, real, window, near=lambda d, w: 0 <= d <= w)


@mistake(
    "local_attention", "the window has no right end: a distance has no sign", of="within_window"
)
def no_absolute(queries, keys, real, window):
    return window_of(queries, keys, real, window, near=lambda d, w: d <= w)


@mistake("local_attention", "padding is seen: a key has to be near and real", of="within_window")
def padding_seen(queries, keys, real, window):
    return window_of(queries, keys, real, window, padding=False)


@mistake(
    "local_attention",
    "padding does not see itself; a softmax over nothing is not a number",
    of="within_window",
)
def itself_unseen(queries, keys, real, window):
    return window_of(queries, keys, real, window, itself=False)


@mistake(
    "local_attention",
    "the mask is inverted: True is where a token may be attended to",
    of="within_window",
)
def window_inverted(queries, keys, real, window):
    return ~window_of(queries, keys, real, window)


@mistake(
    "local_attention", "a key is seen that is near or real; it has to be both", of="within_window"
)
def near_or_real(queries, keys, real, window):
    return window_of(queries, keys, real, window, padding=False) | real


@right("local_attention", of="local_mask")
def local_mask(mask, window):
    from minbert import attention

    places = torch.arange(mask.shape[-1])
    return attention.within_window(places, places, mask, window)


@mistake(
    "local_attention", "`window` is on either side; here it is both sides together", of="local_mask"
)
def window_halved(mask, window):
    return local_mask(mask, window // 2)


@mistake(
    "local_attention", "the mask forgets padding: pass on which keys are real", of="local_mask"
)
def padding_forgotten(mask, window):
    return local_mask(torch.ones_like(mask), window)


@mistake(
    "local_attention",
    "the mask asks whether the query is real; it is keys that must be",
    of="local_mask",
)
def queries_masked(mask, window):
    return local_mask(mask, window).transpose(-1, -2)


@mistake(
    "local_attention", "the batch has lost a dimension: the mask is (B, 1, S, S)", of="local_mask"
)
def dimension_lost(mask, window):
    return local_mask(mask, window).squeeze(1)


def attend(query, key, value, mask, dropout):
    from minbert import attention

    mask = mask if isinstance(mask, torch.Tensor) else attention.local_mask(*mask)
    return attention.scaled_dot_product_attention(query, key, value, mask, dropout)


@right("local_attention", of="local_attention")
def local(query, key, value, mask, window, dropout):
    return attend(query, key, value, (mask, window), dropout)


@mistake(
    "local_attention",
    "the window is not used: this is attention to all real tokens",
    of="local_attention",
)
def window_ignored(query, key, value, mask, window, dropout):
    return attend(query, key, value, mask, dropout)


@mistake(
    "local_attention", "there is no dropout; in eval mode nobody sees that", of="local_attention"
)
def local_without_dropout(query, key, value, mask, window, dropout):
    return attend(query, key, value, (mask, window), nn.Identity())


@mistake(
    "local_attention",
    "only the context is returned; the probabilities belong to it",
    of="local_attention",
)
def context_alone(query, key, value, mask, window, dropout):
    return local(query, key, value, mask, window, dropout)[0]


# Dynamic convolution


def convolved(
    value,
    kernel,
    *,
    offset=0,
    flip=False,
    wrap=False,
    at_source=False,
    cut=False,
    weights=lambda k: k,
    split=None,
):
    """dynamic_convolution as a sum over the K neighbours, with its parts open to change."""
    _, length, heads, width = kernel.shape
    kernel = weights(kernel).double()
    kernel = kernel.flip(-1) if flip else kernel
    values = split(value, heads) if split else value.unflatten(-1, (heads, -1))  # (B, S, N, D)
    rows = []
    for s in range(length):
        total = torch.zeros_like(values[:, 0], dtype=torch.float64)
        for k in range(width):
            place = s + k - width // 2 + offset
            if wrap:
                place %= length
            if 0 <= place < length:
                weight = kernel[:, place if at_source else s, :, k]
                total = total + weight.unsqueeze(-1) * values[:, place].double()
        rows.append(total.to(value.dtype))
    if cut:
        rows = rows[width // 2 : length - width // 2]
    return torch.stack(rows, 1).flatten(2)


@right("convolution")
def dynamic_convolution(value, kernel):
    from minbert import attention

    heads, around = kernel.shape[2], kernel.shape[3] // 2
    for each in (value, nn.functional.pad(value, (0, 0, around, around))):
        attention.split_heads(each, heads)  # either may be what a solution asks for: record both
    found = convolved(value, kernel)
    return attention.merge_heads(found.unflatten(-1, (heads, -1)).transpose(1, 2))


@mistake("convolution", "the kernel is flipped: weight k belongs to place s + k - K // 2")
def kernel_flipped(value, kernel):
    return convolved(value, kernel, flip=True)


@mistake("convolution", "the ends meet: beyond both ends there are zeros, not the other end")
def ends_meet(value, kernel):
    return convolved(value, kernel, wrap=True)


@mistake("convolution", "the padding is missing, so places at both ends are lost")
def ends_lost(value, kernel):
    return convolved(value, kernel, cut=True) if value.size(1) > kernel.size(3) else value[:, :0]


@mistake("convolution", "the window is shifted to the right by one")
def shifted_right(value, kernel):
    return convolved(value, kernel, offset=1)


@mistake("convolution", "the window is shifted to the left by one")
def shifted_left(value, kernel):
    return convolved(value, kernel, offset=-1)


@mistake("convolution", "the window ends at the token: half of it is to lie on the right")
def window_behind(value, kernel):
    return convolved(value, kernel, offset=-(kernel.size(3) // 2))


@mistake(
    "convolution",
    "the weights are those of the place that is read; each place has a kernel for its own sum",
)
def kernel_of_source(value, kernel):
    return convolved(value, kernel, at_source=True)


@mistake("convolution", "the kernel goes through a softmax, which it has seen before")
def softmax_again(value, kernel):
    return convolved(value, kernel, weights=lambda k: k.softmax(-1))


@mistake("convolution", "the softmax is over places; a kernel is what the caller made it")
def softmax_over_places(value, kernel):
    return convolved(value, kernel, weights=lambda k: k.softmax(1))


@mistake("convolution", "all heads have the first head's kernel")
def one_kernel(value, kernel):
    return convolved(value, kernel, weights=lambda k: k[:, :, :1].expand_as(k))


@mistake("convolution", "heads take every N-th feature; head n owns the n-th slice")
def heads_interleaved(value, kernel):
    found = convolved(value, kernel, split=lambda v, n: v.unflatten(-1, (-1, n)).transpose(-1, -2))
    return found.unflatten(-1, (kernel.size(2), -1)).transpose(-1, -2).flatten(-2)


@mistake("convolution", "beyond both ends the end itself is repeated; there are zeros")
def ends_repeated(value, kernel):
    around = kernel.size(3) // 2
    padded = nn.functional.pad(value.transpose(1, 2), (around, around), mode="replicate")
    wide = nn.functional.pad(kernel, (0, 0, 0, 0, around, around))
    found = convolved(padded.transpose(1, 2), wide)
    return found[:, around : around + value.size(1)]
