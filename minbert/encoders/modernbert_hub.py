"""How the hub writes a ModernBERT.

Where transformers 4 and 5 differ, modernbert_config.py reads both.
"""

from __future__ import annotations

from minbert.hub_keys import HubFormat

MODERNBERT = HubFormat(
    classes=("ModernBertModel", "ModernBertForMaskedLM"),
    names={
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "max_positions": "max_position_embeddings",
        "global_every": "global_attn_every_n_layers",
        "global_theta": "global_rope_theta",
        "local_theta": "local_rope_theta",
        "global_rope_factor": "rope_parameters.full_attention.factor",
        "local_rope_factor": "rope_parameters.sliding_attention.factor",
        "layer_norm_eps": "norm_eps",
        "initializer_cutoff": "initializer_cutoff_factor",
    },
    fixed={
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "decoder_bias": True,
        "tie_word_embeddings": True,
    },
    read=frozenset({"layer_types", "rope_parameters", "rope_scaling"}),
    prefix="model.",
    outside=("head.",),
    keys={
        "embeddings.word": "embeddings.tok_embeddings",
        "embeddings.norm": "embeddings.norm",
        "layers.{n}.attention_norm": "layers.{n}.attn_norm",
        "layers.{n}.attention.query_key_value": "layers.{n}.attn.Wqkv",
        "layers.{n}.attention.output": "layers.{n}.attn.Wo",
        "layers.{n}.feed_forward_norm": "layers.{n}.mlp_norm",
        "layers.{n}.feed_forward.inner": "layers.{n}.mlp.Wi",
        "layers.{n}.feed_forward.outer": "layers.{n}.mlp.Wo",
        "final_norm": "final_norm",
        "pooler.dense": "head.dense",
        "pooler.norm": "head.norm",
    },
    mlm_keys={"bias": "decoder.bias"},
    tied={"decoder.weight": "embeddings.tok_embeddings.weight"},
    dropped={
        "decoder.weight": "tied to the word embeddings",
        "decoder.bias": "the masked-language-model head, which was not asked for",
        "classifier": "the head of another task",
    },
)
