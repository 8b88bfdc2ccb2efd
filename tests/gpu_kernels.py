"""What PyTorch documents, or says in the names of arguments, of its GPU kernels of attention, for a
CPU: outputs and gradients from the formulas, in a loop over sequences."""

import itertools
from contextlib import contextmanager

import torch

from minbert import flash


class Kernels:
    """Stand-ins for both kernels, forwards and backwards; remembers what they were asked for."""

    def __init__(self):
        self.calls = []
        """(kernel, window or None, rate of dropout) of each forward pass."""
        self.kept = []
        """Whether efficient attention was asked to keep what its backward pass needs."""
        self.wrong = None
        """A function of the gradients, to have them wrong."""

    def flash(
        self, query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal,
        return_debug_mask, *, window_size_left=None, window_size_right=None, **other,
    ):  # fmt: skip
        assert query.dim() == 3 and not is_causal and not return_debug_mask
        assert window_size_left == window_size_right and not any(other.values())
        self._check(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k)
        self.calls.append(("flash", window_size_left, dropout_p))
        context = self._forward(query, key, value, cum_seq_q, window_size_left)
        nothing = query.new_empty(0)
        return context, nothing, nothing, nothing, nothing

    def flash_backward(
        self, grad_out, query, key, value, out, logsumexp, cum_seq_q, cum_seq_k, max_q, max_k,
        dropout_p, is_causal, rng_state, unused, *, window_size_left=None, **_,
    ):  # fmt: skip
        self._check(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k)
        return self._backward(grad_out, query, key, value, cum_seq_q, window_size_left)

    def efficient(
        self, query, key, value, bias, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
        dropout_p, custom_mask_type, compute_log_sumexp=False, **other,
    ):  # fmt: skip
        assert query.dim() == 4 and len(query) == 1 and bias is None and custom_mask_type == 0
        assert not any(other.values())
        tokens = [x[0] for x in (query, key, value)]
        self._check(*tokens, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
        self.calls.append(("efficient", None, dropout_p))
        context = self._forward(*tokens, cu_seqlens_q, None).unsqueeze(0)
        nothing = query.new_empty(0)
        self.kept.append(compute_log_sumexp)
        logsumexp = query.new_empty(1 if compute_log_sumexp else 0)
        return context, logsumexp, nothing, nothing, max_seqlen_q, max_seqlen_k

    def efficient_backward(
        self, grad_out, query, key, value, bias, out, cu_seqlens_q, cu_seqlens_k, max_seqlen_q,
        max_seqlen_k, logsumexp, *_, **__,
    ):  # fmt: skip
        assert len(logsumexp)  # else the forward pass has not kept what this needs
        tokens = [x[0] for x in (query, key, value)]
        self._check(*tokens, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
        found = self._backward(grad_out[0], *tokens, cu_seqlens_q, None)
        return *(x.unsqueeze(0) for x in found), query.new_empty(0)

    @staticmethod
    def _check(query, key, value, bounds, other_bounds, longest, other_longest):
        assert bounds.dtype == torch.int32 and bounds.is_contiguous()
        assert query.shape == key.shape == value.shape
        assert query.dtype == key.dtype == value.dtype
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        places = bounds.tolist()
        assert places == other_bounds.tolist() and places[0] == 0 and places[-1] == len(query)
        lengths = [end - start for start, end in itertools.pairwise(places)]
        assert longest == other_longest >= max(lengths)  # by which a GPU lays out its work

    @staticmethod
    def _sequences(bounds, window, query, key, *others):
        """Each sequence's tokens, with its probabilities (N, S, S)."""
        lengths = bounds.diff().tolist()
        for q, k, *more in zip(*(x.split(lengths) for x in (query, key, *others)), strict=True):
            scores = torch.einsum("ind,jnd->nij", q, k) / q.size(-1) ** 0.5
            for i, j in itertools.product(range(len(q)), repeat=2):
                if window is not None and abs(i - j) > window:
                    scores[:, i, j] = float("-inf")
            yield q, k, *more, scores.softmax(-1)

    def _forward(self, query, key, value, bounds, window):
        parts = self._sequences(bounds, window, *(x.double() for x in (query, key, value)))
        contexts = [torch.einsum("nij,jnd->ind", p, v) for *_, v, p in parts]
        return torch.cat(contexts).to(query.dtype)

    def _backward(self, grad_out, query, key, value, bounds, window):
        found = []
        tokens = (x.double() for x in (query, key, value, grad_out))
        for q, k, v, dy, p in self._sequences(bounds, window, *tokens):
            dp = torch.einsum("ind,jnd->nij", dy, v)
            ds = p * (dp - (dp * p).sum(-1, keepdim=True)) / q.size(-1) ** 0.5
            dq, dk = torch.einsum("nij,jnd->ind", ds, k), torch.einsum("nij,ind->jnd", ds, q)
            found.append((dq, dk, torch.einsum("nij,ind->jnd", p, dy)))
        gradients = [torch.cat(parts).to(query.dtype) for parts in zip(*found, strict=True)]
        return self.wrong(gradients) if self.wrong else gradients


@contextmanager
def kernels_on_a_cpu(monkeypatch, generation=(9, 0)):
    """Take a CPU for a GPU of some generation; gives its kernels' stand-ins."""
    kernels, library = Kernels(), torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", kernels.flash, "CPU")
    library.impl("_flash_attention_backward", kernels.flash_backward, "CPU")
    library.impl("_efficient_attention_forward", kernels.efficient, "CPU")
    library.impl("_efficient_attention_backward", kernels.efficient_backward, "CPU")
    monkeypatch.setattr(flash, "capability", lambda device: generation)
    chosen = flash._kernel  # which a test may replace
    chosen.cache_clear()
    yield kernels
    chosen.cache_clear()
    library._destroy()
