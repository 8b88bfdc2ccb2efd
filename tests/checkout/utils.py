import boto3_of_no_registry  # theirs imports packages that only a download needs
import importlib_metadata
import torch

VERSION = importlib_metadata.version("torch")


def get_extended_attention_mask(attention_mask, dtype):
    """(B, S) of 1 and 0 -> (B, 1, 1, S) of 0 and -10,000."""
    return (1 - attention_mask[:, None, None, :].to(dtype)) * -10_000.0


def get_parameter_dtype(module):
    return next(module.parameters(), torch.zeros(())).dtype


def download(name):
    return boto3_of_no_registry.client("s3").get(name)
