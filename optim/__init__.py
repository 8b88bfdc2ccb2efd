"""The optimizer, its learning-rate schedules and its parameter groups. Needs only PyTorch."""

from optim.adamw import AdamW
from optim.clipping import clip_gradients
from optim.groups import is_bias_or_norm, parameter_groups
from optim.schedules import SCHEDULES, constant, cosine, linear, set_lr

__all__ = [
    "SCHEDULES",
    "AdamW",
    "clip_gradients",
    "constant",
    "cosine",
    "is_bias_or_norm",
    "linear",
    "parameter_groups",
    "set_lr",
]
