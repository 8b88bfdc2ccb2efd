"""How the hub writes a ConvBERT: what it shares with BERT, it writes alike."""

from __future__ import annotations

from minbert.encoders.bert_hub import BERT
from minbert.hub_keys import HubFormat

_SELF = "encoder.layer.{n}.attention.self"

CONVBERT = HubFormat(
    classes=("ConvBertModel", "ConvBertForMaskedLM"),
    names=BERT.names,
    fixed={"hidden_act": "gelu", "is_decoder": False, "add_cross_attention": False},
    prefix="convbert.",
    keys={
        **{ours: theirs for ours, theirs in BERT.keys.items() if ours != "pooler.dense"},
        "embeddings.projection": "embeddings_project",
        "layers.{n}.attention.span_key": f"{_SELF}.key_conv_attn_layer",
        "layers.{n}.attention.span_key.depthwise": f"{_SELF}.key_conv_attn_layer.depthwise",
        "layers.{n}.attention.span_key.pointwise": f"{_SELF}.key_conv_attn_layer.pointwise",
        "layers.{n}.attention.convolution_kernel": f"{_SELF}.conv_kernel_layer",
        "layers.{n}.attention.convolution_value": f"{_SELF}.conv_out_layer",
    },
    mlm_keys={
        "dense": "generator_predictions.dense",
        "norm": "generator_predictions.LayerNorm",
        "bias": "generator_lm_head.bias",
    },
    tied={"generator_lm_head.weight": "embeddings.word_embeddings.weight"},
    dropped={
        "embeddings.position_ids": "positions are counted, not stored",
        "generator_lm_head.weight": "tied to the word embeddings",
        "generator_lm_head": "the masked-language-model head, which was not asked for",
        "generator_predictions": "the masked-language-model head, which was not asked for",
        "classifier": "the head of another task",
        "qa_outputs": "the head of another task",
    },
)
