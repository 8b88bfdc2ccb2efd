"""Part 4: token by token, on vectors instead of coefficients, with complex numbers, unfolded."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multitask import heads
from solutions import solution


@solution("mlm_masking")
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


@solution("masked_loss")
def states_by_index(self, batch, task="mlm"):
    output = self.encoder(batch.input_ids, None, batch.token_type_ids, layout=batch.layout)
    states = output.last_hidden_state
    return self.heads[task](states.reshape(-1, states.size(-1))[batch.masked])


@solution("layer_rates")
def rates_by_prefix(self, model):
    found, rate = {}, 1.0
    for name, module in model.depths()[::-1]:
        for full, parameter in model.named_parameters():
            if any(parameter is p for p in module.parameters()):
                found[full] = self.heads if name == "heads" else rate
        rate *= self.decay
    return found


@solution("bitfit", of="freeze")
def frozen_one_by_one(encoder):
    own = [n for n, _ in encoder.named_parameters() if "adapters" not in n.split(".")]
    trained = [encoder.get_parameter(name).requires_grad for name in own]
    if any(trained) and not all(trained):
        raise ValueError("some of it is frozen")
    for name in own:
        encoder.get_parameter(name).requires_grad = False


@solution("bitfit", of="train_biases")
def biases_by_module(encoder, roles=("all",)):
    from minbert.adapters import apply

    roles = [*roles]
    modules = dict(encoder.named_modules())
    if "all" not in roles:
        modules = {place: modules[place] for place in apply.select(encoder, roles)}
    biases = [getattr(module, "bias", None) for module in modules.values()]
    if "all" not in roles and any(bias is None for bias in biases):
        raise ValueError("one of them has no bias")
    apply.freeze(encoder)
    for bias in biases:
        if isinstance(bias, Tensor):
            bias.requires_grad = True


@solution("bitfit", of="BitFit.prepare")
def biases_of_the_model(self, model):
    biases_by_module(model.encoder, roles=self.roles)


@solution("lora_start")
def drawn_by_uniform(self, generator):
    bound = self.A.size(1) ** -0.5
    nn.init.uniform_(self.A, -bound, bound, generator=generator)


@solution("lora_forward", of="LoRALinear.forward")
def lora_by_changed_weight(self, base, x):
    if self.magnitude is not None:
        dropped = self.dropout(x)
        return self.rescaled(base, base(x), dropped, self.scale * (dropped @ self.A.T @ self.B.T))
    return (
        torch.addmm(base.bias, x.flatten(0, -2), base.weight.T).unflatten(0, x.shape[:-1])
        + self.dropout(x) @ (self.scale * self.B @ self.A).T
    )


@solution("lora_forward", of="LoRAEmbedding.forward")
def lora_by_changed_table(self, base, ids):
    table = base.weight + self.scale * (self.B @ self.A).T
    found = table[ids]
    return found if self.magnitude is None else found * self.gain(base.weight.T)


@solution("lora_merge", of="LoRA.changed")
def changed_by_addmm(self, matrix):
    return torch.addmm(matrix, self.B, self.A, alpha=self.scale)


@solution("lora_merge", of="Adapted.merge")
def merged_as_state(self):
    if self.is_merged or self.adapter is None:
        return
    values = self.adapter.merged(self.base)
    self._originals = {name: getattr(self.base, name).detach().clone() for name in values}
    self.base.load_state_dict(values, strict=False)


@solution("lora_merge", of="Adapted.unmerge")
def unmerged_as_state(self):
    self.base.load_state_dict(self._originals, strict=False)
    self._originals.clear()


def vectors_of(products):
    """Gradients that have these products: (n, n)."""
    values, vectors = np.linalg.eigh(products)
    return vectors * np.sqrt(np.maximum(values, 0))


@solution("surgery")
def surgery_on_vectors(products, generator):
    gradients, found = vectors_of(products), np.eye(len(products))
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


@solution("vaccine")
def vaccine_on_vectors(products, averages, beta, generator):
    gradients, found, averages = vectors_of(products), np.eye(len(products)), np.array(averages)
    for i in range(len(products)):
        mine = gradients[i].copy()
        others = [j for j in range(len(products)) if j != i]
        generator.shuffle(others)
        for j in others:
            lengths = np.linalg.norm(mine), np.linalg.norm(gradients[j])
            if min(lengths) < 1e-6:
                continue
            angle = np.arccos(np.clip(mine @ gradients[j] / math.prod(lengths), -1, 1))
            aim = np.arccos(averages[i, j])
            if angle > aim > 0:
                share = lengths[0] / lengths[1] * np.sin(angle - aim) / np.sin(aim)
                mine += share * gradients[j]
                found[i, j] += share
            averages[i, j] += beta * (np.cos(angle) - averages[i, j])
    return found, averages


@solution("rope", of="rope_angles")
def angles_by_outer(positions, head_size, theta):
    rates = torch.exp(torch.arange(head_size // 2) * (-2 * math.log(theta) / head_size))
    angles = torch.outer(positions.flatten().float(), rates).view(*positions.shape, -1)
    return angles.cos(), angles.sin()


@solution("rope", of="apply_rope")
def turned_as_complex(x, cos, sin):
    first, second = x.float().unflatten(-1, (2, -1)).unbind(-2)
    turned = torch.complex(first, second) * torch.complex(cos, sin).unsqueeze(-2)
    return torch.cat([turned.real, turned.imag], -1).type_as(x)


@solution("local_attention", of="within_window")
def window_by_loops(queries, keys, real, window):
    pairs = [[int(i) - int(j) for j in keys] for i in queries]
    near = torch.tensor([[-window <= d <= window for d in row] for row in pairs])
    itself = torch.tensor([[d == 0 for d in row] for row in pairs])
    return torch.logical_or(torch.logical_and(near, real), itself)


@solution("local_attention", of="local_mask")
def mask_by_triangles(mask, window):
    size = mask.size(-1)
    band = torch.ones(size, size).tril(window).triu(-window).bool()
    return band & mask | torch.eye(size).bool()


@solution("local_attention", of="local_attention")
def local_with_bias(query, key, value, mask, window, dropout):
    allowed = mask_by_triangles(mask, window)
    scores = torch.einsum("bnqd,bnkd->bnqk", query, key) / query.size(-1) ** 0.5
    probabilities = (scores + torch.where(allowed, 0.0, -math.inf)).softmax(-1)
    return dropout(probabilities) @ value, probabilities


@solution("convolution")
def convolution_by_unfold(value, kernel):
    width = kernel.size(-1)
    padded = F.pad(value, (0, 0, width // 2, width // 2))
    windows = padded.unfold(1, width, 1).unflatten(2, (kernel.size(2), -1))  # (B, S, N, D, K)
    return torch.einsum("bsndk,bsnk->bsnd", windows, kernel).flatten(2)


@solution("smart", of="divergences")
def divergences_by_pytorch(task, a, b):
    if task.kind == "regression":
        return F.mse_loss(a, b, reduction="none").mean(dim=1)
    if task.kind == "classes":
        p, q = F.log_softmax(a, dim=1), F.log_softmax(b, dim=1)
    else:  # yes and no of each output, (B, K, 2)
        p, q = (torch.stack([F.logsigmoid(x), F.logsigmoid(-x)], dim=2) for x in (a, b))
    both = F.kl_div(p, q, log_target=True, reduction="none") + F.kl_div(
        q, p, log_target=True, reduction="none"
    )
    return both.sum(-1) if task.kind == "classes" else both.sum(-1).mean(1)


@solution("smart", of="Smart.worst_noise")
def noise_by_adding_up(self, seen):
    noise = torch.nn.Parameter(seen.embedding_noise().mul_(self.noise))
    before = seen.outputs.clone().detach()
    for _ in range(self.ascent_steps):
        after = seen.same(noise=noise)
        uphill = torch.autograd.grad([*heads.divergences(seen.task, before, after)], [noise])[0]
        with torch.no_grad():
            for token, slope in zip(noise, uphill, strict=True):
                if slope.any():
                    token += self.step_size * slope / slope.abs().max()
                token.clamp_(min=-self.radius, max=self.radius)
    return noise.data


@solution("smart", of="Smart.penalty")
def penalty_by_parts(self, seen):
    outputs = seen.outputs
    total = torch.zeros(len(outputs))
    if self.weight != 0:
        noise = self.worst_noise(seen)
        total = total + heads.divergences(seen.task, outputs, seen.same(noise=noise)) * self.weight
    if self.proximal != 0:
        with torch.no_grad():
            mean = {}
            for name, tensor in seen.model.kept.items():
                mean[name.split("/")[1]] = tensor
            former = seen.same(weights=mean)
        total = total + heads.divergences(seen.task, outputs, former) * self.proximal
    return total


@solution("contrastive")
def ranked_one_by_one(anchors, candidates, of_anchors, of_candidates, temperature=0.05):
    losses = []
    for i, anchor in enumerate(anchors):
        kept = [j for j in range(len(candidates)) if j != i and of_candidates[j] != of_anchors[i]]
        scores = F.cosine_similarity(anchor.unsqueeze(0), candidates[[i, *kept]]) / temperature
        losses.append(-scores.log_softmax(dim=0)[0])
    return torch.stack(losses).mean()


@solution("bottleneck", of="Bottleneck.initialise")
def started_as_a_state(self, generator=None):
    state = {name: torch.zeros_like(values) for name, values in self.state_dict().items()}
    state["down.weight"].normal_(0, 0.02, generator=generator)
    self.load_state_dict(state)


@solution("bottleneck", of="Bottleneck.forward")
def bottleneck_by_einsum(self, z):
    narrow = torch.einsum("bsh,mh->bsm", z, self.down.weight) + self.down.bias
    return torch.einsum("bsm,hm->bsh", self.activation(narrow), self.up.weight) + self.up.bias


@solution("bottleneck", of="HoulsbySum.forward")
def houlsby_with_a_residual_of_its_own(self, residual, output):
    dropped = self.dropout(output)
    adapter_output = dropped + self.adapters(dropped)
    return F.layer_norm(adapter_output + residual, *layer_norm_of(self.norm))


@solution("bottleneck", of="PfeifferSum.forward")
def pfeiffer_from_the_layers_answer(self, residual, output):
    dropped = self.dropout(output)
    without = F.layer_norm(residual + dropped, *layer_norm_of(self.norm))
    found = self.adapters(without) + dropped + residual
    return F.layer_norm(found, *layer_norm_of(self.norm))


def layer_norm_of(norm):
    return norm.normalized_shape, norm.weight, norm.bias, norm.eps
