"""The checks of the exercises: every catalogued mistake is caught and named, alone and beside
others; right solutions pass however they are written; generic wrong answers never do."""

import functools
import math
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle, islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.answers import MISTAKES, RIGHT, load_answers
from lab.diagnose import judge
from lab.exercises import BY_NAME, EXERCISES
from lab.golden import expected, outcome
from lab.harness import planted, resolve, supplied, upstream
from lab.source import Target

load_answers()
SEED = 5
TARGETS = [(e, place) for e in EXERCISES for place in e.places]
EVERY_EXERCISE = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)


@functools.cache
def numbers(name):
    return expected(BY_NAME[name], SEED)


def verdict(exercise, seed=SEED):
    """What is said of the code as it is, with upstream supplied."""
    right, calls = numbers(exercise.name)
    with supplied(exercise, calls):
        return judge(outcome(exercise, seed), right)


def plant(pairs):
    stack = ExitStack()
    for target, function in pairs:
        stack.enter_context(planted(target, function))
    return stack


def blanked(exercise, target) -> Callable:
    @functools.wraps(resolve(target)[2])
    def blank(*args, **kwargs):
        raise NotImplementedError(str(exercise))

    return blank


def test_every_exercise_has_a_check_an_answer_and_mistakes():
    assert len(EXERCISES) >= 38 and len(BY_NAME) == len(EXERCISES)
    assert len(MISTAKES) >= 280
    for exercise in EXERCISES:
        assert all(place in RIGHT for place in exercise.places)
        assert sum(m.exercise == exercise.name for m in MISTAKES) >= 4
        assert len(exercise.hints) == 3
        for name in exercise.uses:
            assert BY_NAME[name].number < exercise.number
    assert len({place for _, place in TARGETS}) == len(TARGETS)


@EVERY_EXERCISE
def test_the_librarys_own_code_is_right(exercise):
    assert verdict(exercise).status == "done"


@EVERY_EXERCISE
def test_a_blank_is_not_started(exercise):
    for target in exercise.places:
        with planted(target, blanked(exercise, target)):
            assert verdict(exercise).status == "not started"


@EVERY_EXERCISE
def test_an_exercise_can_be_done_while_all_others_are_blank(exercise):
    others = [(place, blanked(e, place)) for e, place in TARGETS if e is not exercise]
    assert len(others) >= 24
    with plant(others):
        assert verdict(exercise).status == "done"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.exercise}-{m.name}")
def test_a_mistake_is_named(mistake):
    with planted(mistake.target, mistake.function):
        found = verdict(BY_NAME[mistake.exercise])
    assert found.status == "wrong" and found.named
    assert found.message.rstrip(".") == mistake.says.rstrip(".")


@EVERY_EXERCISE
def test_mistakes_elsewhere_change_nothing(exercise):
    """With a mistake in every other exercise at once, round after round until all were there."""
    others = [
        [m for m in MISTAKES if m.target == place] for e, place in TARGETS if e is not exercise
    ]
    rounds = max(map(len, others))
    for mistakes in zip(*(islice(cycle(group), rounds) for group in others), strict=True):
        with plant((m.target, m.function) for m in mistakes):
            assert verdict(exercise).status == "done", [m.name for m in mistakes]


@EVERY_EXERCISE
def test_upstream_is_really_supplied(exercise):
    """Without the record, an exercise that uses others fails where they are blank."""
    if not exercise.uses:
        return
    right, calls = numbers(exercise.name)
    assert {call["target"] for call in calls} == set(map(str, upstream(exercise)))
    blanks = [(place, blanked(exercise, place)) for place in upstream(exercise)]
    with plant(blanks):
        assert judge(outcome(exercise, SEED), right).status != "done"


# Right solutions, written differently


def sdpa(query, key, value, mask, dropout):
    if isinstance(dropout, torch.nn.Dropout) and dropout.training:
        scores = torch.baddbmm(
            torch.zeros(()), query.flatten(0, 1), key.flatten(0, 1).mT, alpha=query.size(-1) ** -0.5
        ).view(*query.shape[:3], -1)
        bias = torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
        probabilities = F.softmax(scores + bias, -1)
        return dropout(probabilities) @ value, probabilities
    eye = torch.eye(key.size(-2)).expand(*key.shape[:2], -1, -1)
    context = F.scaled_dot_product_attention(query, key, value, mask)
    return context, F.scaled_dot_product_attention(query, key, eye, mask)


def attention_by_loops(query, key, value, mask, dropout):
    batch, heads, length, size = query.shape
    rows = []
    for b in range(batch):
        for n in range(heads):
            for q in range(length):
                row = (key[b, n] * query[b, n, q]).sum(-1) / size**0.5
                if mask is not None:
                    allowed = mask.expand(batch, heads, length, length)[b, n, q]
                    row = torch.where(allowed, row, torch.tensor(-1e9))
                rows.append(row.softmax(0))
    probabilities = torch.stack(rows).view(batch, heads, length, length)
    return torch.einsum("bnqk,bnkd->bnqd", dropout(probabilities), value), probabilities


def self_attention_in_one(self, x, layout, attentions=None):
    """Nothing of what other exercises make."""

    def attend(query, key, value, mask):
        q, k, v = (y.unflatten(-1, (self.num_heads, -1)) for y in (query, key, value))
        scores = torch.einsum("bqnd,bknd->bnqk", q, k) / q.size(-1) ** 0.5
        scores = scores + (1.0 - mask.float())[:, None, None] * -1e9
        probabilities = torch.softmax(scores, -1)
        if attentions is not None:
            attentions.extend([probabilities])
        return torch.einsum("bnqk,bknd->bqnd", self.dropout(probabilities), v).flatten(2)

    parts = [module(x) for module in (self.query, self.key, self.value)]
    return self.output(layout.per_sequence(attend, *parts))


def self_attention_with_keywords(self, x, layout, attentions=None):
    from minbert import attention as a

    def attend(query, key, value, mask):
        query, key, value = (
            a.split_heads(num_heads=self.num_heads, x=y) for y in (query, key, value)
        )
        context, probabilities = a.scaled_dot_product_attention(
            dropout=self.dropout, query=query, key=key, value=value, mask=a.key_mask(mask)
        )
        if attentions is not None:
            attentions.append(probabilities)
        return a.merge_heads(context)

    return self.output(layout.per_sequence(attend, self.query(x), self.key(x), self.value(x)))


def layer_written_out(self, x, layout, attentions=None):
    first, second = self.attention_norm, self.feed_forward_norm
    y = first.norm(x + first.dropout(self.attention(x, layout, attentions)))
    inner = F.gelu(self.feed_forward.inner(y))
    return second.norm(y + second.dropout(self.feed_forward.outer(inner)))


@torch.no_grad()
def foreach_step(self, closure=None):
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    for group in self.param_groups:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            continue
        states = [self.next_state(p) for p in params]
        ms, vs = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        b1, b2 = group["betas"]
        grads, decay = [p.grad for p in params], group["lr"] * group["weight_decay"]
        if group["decay"] == "before":
            torch._foreach_mul_(params, 1 - decay)
        torch._foreach_lerp_(ms, grads, 1 - b1)
        torch._foreach_mul_(vs, b2)
        torch._foreach_addcmul_(vs, grads, grads, 1 - b2)
        t = states[0]["step"]
        c1, c2 = (1 - b1**t, 1 - b2**t) if group["correct_bias"] else (1.0, 1.0)
        roots = torch._foreach_sqrt(vs)
        if not group["efficient"]:
            torch._foreach_div_(roots, c2**0.5)
        torch._foreach_add_(roots, group["eps"])
        rate = group["lr"] * (c2**0.5 if group["efficient"] else 1) / c1
        torch._foreach_addcdiv_(params, ms, roots, -rate)
        if group["decay"] == "after":
            torch._foreach_mul_(params, 1 - decay)
    return loss


def through_data(param, lr, weight_decay):
    param.data = param.data - lr * weight_decay * param.data


def moments_by_copy(m, v, grad, betas):
    m[:] = betas[0] * m + (1 - betas[0]) * grad
    v[...] = betas[1] * v + (1 - betas[1]) * grad**2


def embeddings_one_hot(self, input_ids, token_type_ids, positions):
    def look_up(table, index):
        return F.one_hot(index, table.num_embeddings).float() @ table.weight

    x = look_up(self.word, input_ids).clone()
    x += look_up(self.position, positions)
    x += look_up(self.token_type, token_type_ids)
    return self.dropout(
        F.layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias, self.norm.eps)
    )


def mean_by_matmul(self, x):
    weights = self.mask / self.mask.sum(1, keepdim=True)
    return torch.bmm(weights.unsqueeze(1).to(x.dtype), x).squeeze(1)


def losses_by_hand(task, outputs, labels):
    if task.kind == "classes":
        return F.nll_loss(outputs.log_softmax(-1), labels.long(), reduction="sum")
    if task.kind == "regression":
        return (outputs[:, 0] - labels).pow(2).sum()
    p = torch.sigmoid(outputs.view(-1))
    return -(labels * p.log() + (1 - labels) * (1 - p).log()).sum()


def drawn_by_bits(tasks, *, seed, step):
    return tasks[int(np.random.default_rng([step, seed]).random() * len(tasks))]


def hub_names_by_longest_prefix(model):
    import re

    encoder, names = model["encoder"], {}
    for ours, _ in model.named_parameters():
        part, _, rest = ours.partition(".")
        number = re.search(r"\d+", rest)
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "{n}", rest)
        table = encoder.KEYS if part == "encoder" else encoder.MLM_KEYS
        key = max((k for k in table if f"{pattern}.".startswith(f"{k}.")), key=len)
        hub = table[key].replace("{n}", number.group() if number else "")
        names[ours] = hub + pattern[len(key) :]
    return names


def masked_by_loops(self, input_ids, generator):
    seen, chosen = list(input_ids), np.zeros(len(input_ids), dtype=bool)
    words = self.words(input_ids) if self.whole_words else np.arange(len(input_ids))
    picked = {int(word): generator.random() < self.rate for word in words}
    for place, (token, word) in enumerate(zip(input_ids, words, strict=True)):
        if self.is_special[token] or not picked[int(word)]:
            continue
        chosen[place] = True
        rest = 1 - self.mask_share - self.random_share
        fate = generator.choice(3, p=[self.mask_share, self.random_share, rest])
        if fate < 2:
            seen[place] = generator.choice(self.ordinary) if fate else self.mask_id
    return np.array(seen), chosen


def rates_by_prefix(self, model):
    found, rate = {}, 1.0
    for name, module in model.depths()[::-1]:
        for full, parameter in model.named_parameters():
            if any(parameter is p for p in module.parameters()):
                found[full] = self.heads if name == "heads" else rate
        rate *= self.decay
    return found


def lora_by_changed_weight(self, base, x):
    if self.magnitude is not None:
        dropped = self.dropout(x)
        return self.rescaled(base, base(x), dropped, self.scale * (dropped @ self.A.T @ self.B.T))
    return (
        torch.addmm(base.bias, x.flatten(0, -2), base.weight.T).unflatten(0, x.shape[:-1])
        + self.dropout(x) @ (self.scale * self.B @ self.A).T
    )


def surgery_on_vectors(products, generator):
    """With square roots of the products for gradients."""
    values, vectors = np.linalg.eigh(products)
    gradients = vectors * np.sqrt(np.maximum(values, 0))
    found = np.eye(len(products))
    for i in range(len(products)):
        mine = gradients[i].copy()
        others = [j for j in range(len(products)) if j != i]
        generator.shuffle(others)
        for j in others:
            dot = mine.dot(gradients[j])
            if dot < 0:
                share = dot / gradients[j].dot(gradients[j])
                mine -= share * gradients[j]
                found[i, j] -= share
    return found


def rope_by_complex_numbers(x, cos, sin):
    first, second = x.float().unflatten(-1, (2, -1)).unbind(-2)
    turned = torch.complex(first, second) * torch.complex(cos, sin).unsqueeze(-2)
    return torch.cat([turned.real, turned.imag], -1).type_as(x)


def convolution_by_unfold(value, kernel):
    width = kernel.size(-1)
    padded = F.pad(value, (0, 0, width // 2, width // 2))
    windows = padded.unfold(1, width, 1).unflatten(2, (kernel.size(2), -1))  # (B, S, N, D, K)
    return torch.einsum("bsndk,bsnk->bsnd", windows, kernel).flatten(2)


ALTERNATIVES = {
    "mlm_masking": [masked_by_loops],
    "masked_loss": [
        lambda self, batch, task="mlm", then=lambda x: x: then(self.heads[task](self.encoder(
            batch.input_ids, None, batch.token_type_ids, layout=batch.layout
        ).last_hidden_state.reshape(-1, 4)[batch.masked])),
    ],
    "layer_rates": [rates_by_prefix],
    "lora_start": [
        lambda self, generator: nn.init.uniform_(
            self.A, -self.A.size(1) ** -0.5, self.A.size(1) ** -0.5, generator=generator
        ),
    ],
    "lora_forward:LoRALinear.forward": [lora_by_changed_weight],
    "lora_merge:LoRA.changed": [lambda self, w: torch.addmm(w, self.B, self.A, alpha=self.scale)],
    "surgery": [surgery_on_vectors],
    "rope:rope_angles": [
        lambda p, d, theta: (
            angles := torch.outer(p.flatten().float(), torch.exp(
                torch.arange(d // 2) * (-2 * math.log(theta) / d))).view(*p.shape, -1),
            (angles.cos(), angles.sin()))[1],
    ],
    "rope:apply_rope": [rope_by_complex_numbers],
    "local_attention:local_mask": [
        lambda mask, w: torch.ones(2 * [mask.size(-1)]).tril(w).triu(-w).bool() & mask
        | torch.eye(mask.size(-1)).bool(),
    ],
    "convolution": [convolution_by_unfold],
    "embeddings": [embeddings_one_hot],
    "attention_mask": [lambda m: m.unsqueeze(1).unsqueeze(2), lambda m: m.view(len(m), 1, 1, -1)],
    "attention": [sdpa, attention_by_loops],
    "heads:split_heads": [
        lambda x, n: torch.einsum("bsnd->bnsd", x.unflatten(-1, (n, -1))),
        lambda x, n: torch.stack(x.split(x.size(-1) // n, -1)).transpose(0, 1).contiguous(),
    ],
    "heads:merge_heads": [lambda x: x.permute(0, 2, 1, 3).contiguous().flatten(2)],
    "self_attention": [self_attention_in_one, self_attention_with_keywords],
    "add_norm": [lambda self, r, o: self.norm(torch.add(self.dropout(o), r))],
    "feed_forward": [
        lambda self, x: self.outer(torch.nn.GELU()(self.inner(x))),
        lambda self, x: self.outer((y := self.inner(x)) * torch.special.ndtr(y)),
    ],
    "layer": [layer_written_out],
    "pooler:Pooler.forward": [lambda self, x: self.dense(x).clone().tanh_()],
    "loading:hub_names": [hub_names_by_longest_prefix],
    "moments": [moments_by_copy],
    "bias_correction": [
        lambda t, betas, on: [1 - math.pow(b, t) if on else 1 for b in betas],
    ],
    "weight_decay": [through_data, lambda p, lr, wd: p.sub_(p, alpha=lr * wd)],
    "adamw_step": [foreach_step],
    "no_decay": [lambda name, p: name.endswith(".bias") or p.dim() == 1],
    "pooling:Padded.mean": [
        mean_by_matmul,
        lambda self, x: torch.where(self.mask[..., None], x, torch.nan).nanmean(1),
    ],
    "pooling:Padded.max": [
        lambda self, x: (x - 1e9 * (~self.mask)[..., None]).max(dim=1).values,
    ],
    "compare:compare_cosine": [
        lambda u, v: (F.normalize(u, dim=-1) * F.normalize(v, dim=-1)).sum(-1, keepdim=True)
    ],
    "losses": [losses_by_hand],
    "sampling": [drawn_by_bits],
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_right_solutions_written_differently_pass(name):
    exercise, _, of = name.partition(":")
    exercise = BY_NAME[exercise]
    target = next(p for p in exercise.places if of in ("", p.name))
    others = [(place, blanked(e, place)) for e, place in TARGETS if e is not exercise]
    for function in ALTERNATIVES[name]:
        # The layer written out calls modules of other exercises, as a student may.
        with plant([] if name == "layer" else others), planted(target, function):
            found = verdict(exercise)
        assert found.status == "done", f"{name}: {found.message}"


# Generic wrong answers


def changed(change, value):
    """A value with its tensors and numbers changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, np.ndarray):
        return change(torch.from_numpy(value)).numpy()
    if isinstance(value, tuple | list):
        return type(value)(changed(change, item) for item in value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return change(torch.tensor(float(value))).item() + 1e-3 * (change is as_half)
    if isinstance(value, str):
        return ""
    if isinstance(value, dict):
        return dict.fromkeys(value, "x")
    return None


def as_half(x):
    if x.dtype == torch.float64:
        return x.float()
    return x.double() if x.is_floating_point() else x.to(torch.int8)


def shifted(x):
    if x.is_floating_point():
        return x + 1e-3
    return ~x if x.dtype == torch.bool else x + 1


def turned(x):
    if x.dim() > 1:
        return x.transpose(-1, -2)
    return x.flip(0) if x.dim() else -x - 1


def noise(x):
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x.dtype)


GENERIC = {
    "zeros": torch.zeros_like,
    "random": noise,
    "transposed": turned,
    "off by 1e-3": shifted,
    "wrong dtype": as_half,
    "nan": lambda x: torch.full(x.shape, math.nan),
}


NOT_NUMBERS = (
    "AdamW.step", "MultitaskModel.from_config", "Tokenizer.encode", "freeze", "train_biases",
    "BitFit.prepare", "LoRALinear.initialise", "Adapted.merge", "Adapted.unmerge",
)  # fmt: skip
"""What these give is no tensor: see the catalogue."""


@pytest.mark.parametrize("change", GENERIC)
def test_generic_wrong_answers_are_never_right(change):
    count = 0
    for exercise, target in TARGETS:
        right = resolve(target)[2]

        def wrong(*args, right=right, **kwargs):
            before = [a.clone() if isinstance(a, Tensor) else a for a in args]
            result = right(*args, **kwargs)
            if result is not None:
                return changed(GENERIC[change], result)
            for argument, old in zip(args, before, strict=True):  # changed in place
                if isinstance(argument, Tensor) and not torch.equal(argument, old):
                    argument.data = GENERIC[change](argument.data)
            return None

        if target.name in NOT_NUMBERS:
            continue
        with planted(target, wrong):
            found = verdict(exercise)
        assert found.status == "wrong" and found.message, f"{change}: {target}"
        count += 1
    assert count >= 24


def test_a_function_that_does_nothing_is_wrong():
    for exercise, target in TARGETS:
        with planted(target, lambda *args, **kwargs: None):
            assert verdict(exercise).status == "wrong", target


def test_another_seed_gives_other_inputs():
    exercise = BY_NAME["attention"]
    assert (
        numbers("attention")[0]["right"]["cases"]
        != expected(exercise, SEED + 1)[0]["right"]["cases"]
    )


def test_planting_is_undone():
    from minbert import attention
    from minbert.encoders import bert

    target = Target.parse("minbert.attention:split_heads")
    original = attention.split_heads
    with planted(target, lambda x, n: x):
        assert bert.split_heads is attention.split_heads is not original
    assert bert.split_heads is attention.split_heads is original
