"""How hub checkpoints write an encoder: a `HubFormat` beside each, and what all have in common.

Each key of a config.json is read (the fields of an encoder's config, and `read` of its format),
refused where it asks for what is not computed (ONLY, and `fixed` of the format), or known to be
without effect (NO_EFFECT). Of any other key it is said that nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from minbert.checks import warn
from minbert.files import brief


@dataclass(frozen=True, kw_only=True)
class HubFormat:
    """How hub checkpoints write one kind of encoder."""

    classes: tuple[str, str]
    """transformers' class for the encoder alone, and for it with the masked-language-model head."""

    names: Mapping[str, str]
    """Field of the config -> its name in config.json, where the two differ."""
    fixed: Mapping[str, Any]
    """Settings of config.json that this encoder has in one form only."""
    read: frozenset[str] = frozenset()
    """Keys of config.json that `from_hub` of the config reads beside the fields."""

    prefix: str
    """What stands before the encoder's names when a head is in the file too."""
    outside: tuple[str, ...] = ()
    """Beginnings of names that never have the prefix."""
    keys: Mapping[str, str]
    """Module or parameter of the encoder -> its name; {n} stands for a layer's number."""
    mlm_keys: Mapping[str, str]
    """The same for the masked-language-model head; a parameter that is tied has no entry."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Name of a copy that this encoder ties -> the name of its original."""
    dropped: Mapping[str, str]
    """Beginning of a name that loading leaves out -> why."""


ONLY: Mapping[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False, None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "head_dim": (None,),
    "partial_rotary_factor": (None, 1.0),
    "per_layer_config": (None, {}),
    "pruned_heads": (None, {}),
    "quantization_config": (None, {}),
    "tie_last_hidden_states": (None, True),
    "transformers_weights": (None,),
}
"""Key -> the values of it that are computed here."""

GENERATION = {
    "assistant_confidence_threshold", "bad_words_ids", "begin_suppress_tokens",
    "decoder_start_token_id", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
    "length_penalty", "max_length", "min_length", "no_repeat_ngram_size", "num_assistant_tokens",
    "num_assistant_tokens_schedule", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_scores", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate",
    "suppress_tokens", "target_lookbehind", "temperature", "top_k", "top_p", "typical_p",
    "use_cache",
}  # fmt: skip
"""About making text, token by token."""

NO_EFFECT = GENERATION | {
    # where it came from
    "_commit_hash", "_name_or_path", "name_or_path", "architectures", "auto_map", "model_type",
    "transformers_version", "tokenizer_class", "language", "vocab_path", "custom_pipelines",
    # heads of other tasks
    "id2label", "label2id", "num_labels", "_num_labels", "problem_type", "finetuning_task",
    "task_specific_params", "classifier_dropout", "prefix",
    # what a call returns, and how it is computed: weights are float32 here
    "output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "output_past",
    "dtype", "torch_dtype", "torchscript", "use_bfloat16", "tf_legacy_loss", "xla_device",
    "chunk_size_feed_forward", "gradient_checkpointing", "attn_implementation",
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
    "experts_implementation", "_experts_implementation_internal",
    # of decoders and of other models' tokenizers
    "bos_token_id", "eos_token_id", "sep_token_id", "cross_attention_hidden_size",
    "tie_encoder_decoder", "tie_word_embeddings",
    "original_max_position_embeddings", "rope_theta",
    # of old checkpoints
    "directionality", "embedding_size", "pooler_fc_size", "pooler_num_attention_heads",
    "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "summary_activation",
    "summary_last_dropout", "summary_type", "summary_use_proj", "deterministic_flash_attn",
    "layer_norm_eps", "position_embedding_type", "reference_compile", "repad_logits_with_grad",
    "sparse_pred_ignore_index", "sparse_prediction",
}  # fmt: skip
"""Keys without effect where the encoder's format does not name them. That tie_word_embeddings holds
is seen in the tensors."""


def check_keys(
    settings: Mapping[str, Any],
    only: Mapping[str, tuple[Any, ...]],
    known: Set[str],
    *,
    file: str,
    reader: str,
) -> None:
    """Look through the settings of another library's file; what is not known is said, for it has
    no effect.

    Args:
        settings: the file's.
        only: key -> the values of it that are computed here.
        known: keys that are read, or without effect.
        file: its name, for messages.
        reader: who reads it, likewise.

    Raises:
        ValueError: a setting asks for what is not computed here.
    """
    for key, value in settings.items():
        if key in only and value not in only[key]:
            values = " or ".join(repr(each) for each in only[key] if each is not None)
            raise ValueError(
                f"{file} says {key} = {brief(value)}, and {reader} computes {values or None} only; "
                "load another checkpoint"
            )
    if unknown := [key for key in settings if key not in only and key not in known]:
        warn(f"{file}: nothing is known of {', '.join(unknown)}; without effect")
