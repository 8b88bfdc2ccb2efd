"""What the tests of adapters share: random values, a batch, and what a model makes of it."""

from unittest.mock import patch

import torch
from peft import PeftModel

EMBEDDINGS = ["word_embeddings", "position_embeddings", "token_type_embeddings"]
LINEAR = ["query", "key", "value", "dense"]
"""Names of modules in transformers' BERT."""
EXACT = {"rtol": 1e-9, "atol": 1e-10}


def fill(parameters, seed=0):
    """Values that matter to the output: about 1 where they are factors, else about 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        factor = "ia3" in name or "magnitude" in name or name.endswith("scale")
        start = parameter.data if "magnitude" in name else float(factor)
        parameter.data = (start + 0.3 * noise).to(parameter.dtype)


def save_peft(model, folder):
    """peft's files, without the model card on which it spends most of the time."""
    with patch.object(PeftModel, "create_or_update_model_card"):
        model.save_pretrained(folder)


def trained(model):
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def batch(config, lengths=(9, 4, 12), seed=0):
    """input_ids, attention_mask, token_type_ids; one real token is [PAD], which learns nothing."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(8, config.vocab_size, (len(lengths), max(lengths)), generator=generator)
    types = torch.randint(config.type_vocab_size, ids.shape, generator=generator)
    ids[0, 3] = config.pad_token_id
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return ids * mask + config.pad_token_id * ~mask, mask.long(), types * mask


def outputs(model, inputs):
    """Hidden states at real tokens, and the pooler's output."""
    ids, mask, types = inputs
    output = model(input_ids=ids, attention_mask=mask, token_type_ids=types)
    return output.last_hidden_state[inputs[1].bool()], output.pooler_output


def backward(found):
    """Gradients of a sum in which each number has a weight of its own."""
    generator = torch.Generator().manual_seed(1)
    weighted = (x * torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in found)
    sum(part.sum() for part in weighted).backward()


def assert_same(found, wanted, **tolerance):
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, **(tolerance or EXACT))
