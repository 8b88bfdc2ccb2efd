"""A mistake in each exercise as a student makes it: right code with a few words changed.

The words are those of the library's own code, so they follow it when it changes.
"""

from typing import NamedTuple


class Edit(NamedTuple):
    """What is changed, and which mistake of the catalogue it makes."""

    exercise: str
    mistake: str
    old: str
    new: str
    of: str = ""
    """The function, where the exercise has several."""


EDITS = (
    Edit(
        "embeddings",
        "dropout_before_norm",
        "self.dropout(self.norm(x))",
        "self.norm(self.dropout(x))",
    ),
    Edit("attention_mask", "mask_on_queries", "[:, None, None, :]", "[:, None, :, None]"),
    Edit("attention", "unscaled", " / math.sqrt(query.size(-1))", ""),
    Edit(
        "heads",
        "split_without_transpose",
        "x.view(batch, length, num_heads, hidden // num_heads).transpose(1, 2)",
        "x.view(batch, num_heads, length, hidden // num_heads)",
        of="split_heads",
    ),
    Edit("self_attention", "padding_attended", "key_mask(mask)", "None", of="attend"),
    Edit(
        "add_norm",
        "dropout_after_residual",
        "residual + self.dropout(output)",
        "self.dropout(residual + output)",
    ),
    Edit(
        "feed_forward",
        "gelu_tanh",
        "F.gelu",
        'lambda x: F.gelu(x, approximate="tanh")',
    ),
    Edit("layer", "one_norm_for_both", "feed_forward_norm(x,", "attention_norm(x,"),
    Edit("encoder", "layers_side_by_side", "states[-1]", "states[0]"),
    Edit(
        "pooler",
        "no_tanh",
        "torch.tanh(self.dense(first))",
        "self.dense(first)",
        of="Pooler.forward",
    ),
    Edit(
        "loading",
        "prefix_anywhere",
        "name.removeprefix(prefix)",
        'name.replace(prefix, "")',
        of="_modern_name",
    ),
    Edit("moments", "swapped_betas", "beta1, beta2 = betas", "beta2, beta1 = betas"),
    Edit(
        "bias_correction",
        "step_ignored",
        "1 - beta1**step, 1 - beta2**step",
        "1 - beta1, 1 - beta2",
    ),
    Edit(
        "adam_update",
        "eps_inside_root",
        "v.sqrt().add_(eps)",
        "v.add(eps).sqrt_()",
        of="efficient_update",
    ),
    Edit("weight_decay", "decay_without_rate", "lr * weight_decay", "weight_decay"),
    Edit("adamw_step", "counted_twice", 'state["step"], betas', 'state["step"] + 1, betas'),
    Edit("no_decay", "shape_only", ' or name.split(".")[-1] == "bias"', ""),
    Edit("warmup", "below_zero", "max(0.0, ", "("),
    Edit("pooling", "mean_by_length", "mask.sum(dim=1)", "x.size(1)", of="Padded.mean"),
    Edit(
        "pair",
        "types_all_zero",
        "[e.type_ids for e in encodings]",
        "[[0] * len(e) for e in encodings]",
    ),
    Edit("classifier", "no_second_dropout", "output(self.dropout(x))", "output(x)"),
    Edit("compare", "signed_difference", "(u - v).abs()", "u - v", of="compare_concat"),
    Edit("losses", "absolute_error", "F.mse_loss", "F.l1_loss"),
    Edit("answers", "yes_is_no", "[1 - yes, yes]", "[yes, 1 - yes]"),
    Edit("freezing", "all_frozen", "encoder.requires_grad_(False)", "model.requires_grad_(False)"),
    Edit("sampling", "same_every_step", "(seed, 1, step)", "(seed, 1)"),
    Edit("mlm_masking", "special_masked", " & ~self.is_special[input_ids]", ""),
    Edit("masked_loss", "all_scored", "tokens.index_select(0, batch.masked)", "tokens"),
    Edit(
        "layer_rates", "rates_one_too_high", "self.decay**distance", "self.decay ** (distance + 1)"
    ),
    Edit(
        "bitfit",
        "norms_forgotten",
        '== "bias"]',
        '== "bias" and "norm" not in name]',
        of="train_biases",
    ),
    Edit("lora_start", "relu_bound", "a=math.sqrt(5), ", ""),
    Edit(
        "lora_forward",
        "scale_missing",
        "F.linear(dropped, self.A) * self.scale",
        "F.linear(dropped, self.A)",
        of="LoRALinear.forward",
    ),
    Edit("lora_merge", "merged_without_scale", "self.scale * (", "(", of="LoRA.changed"),
    Edit("surgery", "agreeing_projected", "if along < 0:", "if along > 0:"),
    Edit(
        "vaccine",
        "beta_swapped",
        "(1 - beta) * aim + beta * cosine",
        "beta * aim + (1 - beta) * cosine",
    ),
    Edit(
        "rope",
        "turned_back",
        "first * cos - second * sin, first * sin + second * cos",
        "first * cos + second * sin, second * cos - first * sin",
        of="apply_rope",
    ),
    Edit(
        "local_attention",
        "strictly_below",
        "distance <= window",
        "distance < window",
        of="within_window",
    ),
    Edit(
        "convolution", "kernel_flipped", "kernel.transpose(1, 2)", "kernel.flip(-1).transpose(1, 2)"
    ),
    Edit("smart", "downhill", "+ self.step_size", "- self.step_size", of="Smart.worst_noise"),
    Edit("contrastive", "temperature_multiplied", "scores / temperature", "scores * temperature"),
    Edit(
        "bottleneck",
        "pfeiffer_reads_the_sum",
        "self.adapters(self.norm(total))",
        "self.adapters(total)",
        of="PfeifferSum.forward",
    ),
    Edit("batch", "one_too_many", "lengths.max()) <", "lengths.max()) <=", of="layout_of"),
    Edit("clipping", "always_to_limit", ".clamp(max=1.0)", ""),
    Edit(
        "accumulation",
        "each_brings",
        "reduce and share is shares[-1]",
        "reduce",
        of="Engine._backward_each",
    ),
    Edit("metrics", "cosine", "v - v.mean(-1, keepdims=True)", "v", of="_pearson"),
    Edit(
        "wordpiece",
        "shortest_first",
        "range(len(word), start, -1)",
        "range(start + 1, len(word) + 1)",
    ),
    Edit("bpe_merge", "unweighted", "+= count", "+= 1", of="pair_counts"),
    Edit("bpe", "last_learnt_first", "min(learnt,", "max(learnt,"),
    Edit("parameters", "pooler_forgotten", " + pooler", "", of="bert_parameters"),
    Edit("memory_flops", "multiplications_alone", "2 * (maps", "1 * (maps", of="layer_flops"),
    Edit("few_rate", "signed", "gradient.abs()", "gradient", of="promised_decrease"),
)
