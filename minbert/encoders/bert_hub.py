"""How the hub writes a BERT."""

from __future__ import annotations

from minbert.hub_keys import HubFormat

BERT = HubFormat(
    classes=("BertModel", "BertForMaskedLM"),
    names={
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "max_positions": "max_position_embeddings",
        "hidden_dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
    },
    fixed={
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
    },
    prefix="bert.",
    keys={
        "embeddings.word": "embeddings.word_embeddings",
        "embeddings.position": "embeddings.position_embeddings",
        "embeddings.token_type": "embeddings.token_type_embeddings",
        "embeddings.norm": "embeddings.LayerNorm",
        "layers.{n}.attention.query": "encoder.layer.{n}.attention.self.query",
        "layers.{n}.attention.key": "encoder.layer.{n}.attention.self.key",
        "layers.{n}.attention.value": "encoder.layer.{n}.attention.self.value",
        "layers.{n}.attention.output": "encoder.layer.{n}.attention.output.dense",
        "layers.{n}.attention_norm.norm": "encoder.layer.{n}.attention.output.LayerNorm",
        "layers.{n}.feed_forward.inner": "encoder.layer.{n}.intermediate.dense",
        "layers.{n}.feed_forward.outer": "encoder.layer.{n}.output.dense",
        "layers.{n}.feed_forward_norm.norm": "encoder.layer.{n}.output.LayerNorm",
        "pooler.dense": "pooler.dense",
    },
    mlm_keys={
        "dense": "cls.predictions.transform.dense",
        "norm": "cls.predictions.transform.LayerNorm",
        "bias": "cls.predictions.bias",
    },
    tied={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    dropped={
        "embeddings.position_ids": "positions are counted, not stored",
        "cls.predictions.decoder": "tied to the word embeddings and to cls.predictions.bias",
        "cls.predictions": "the masked-language-model head, which was not asked for",
        "cls.seq_relationship": "the next-sentence head",
        "classifier": "the head of another task",
        "qa_outputs": "the head of another task",
    },
)
