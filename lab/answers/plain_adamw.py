"""AdamW's lines as students write it, and mistakes that change a line."""

from __future__ import annotations

import math

from lab.answers import plain


@plain("moments")
def update_moments(m, v, grad, betas):
    b1, b2 = betas
    m.mul_(b1).add_(grad, alpha=1 - b1)
    v.mul_(b2).addcmul_(grad, grad, value=1 - b2)


update_moments.but(
    "v is a mean of (g - m)², as in AdaBelief; Adam's is of g²",
    "addcmul_(grad, grad,",
    "addcmul_(grad - m, grad - m,",
)
update_moments.but(
    "the betas are written as numbers; take those that are passed in",
    "b1, b2 = betas",
    "b1, b2 = 0.9, 0.999",
)
update_moments.but(
    "m has nothing of its old value: b1 m is missing",
    "m.mul_(b1).add_(grad, alpha=1 - b1)",
    "m.copy_(grad * (1 - b1))",
)
update_moments.but(
    "v has a root here; the update takes it", "value=1 - b2)", "value=1 - b2).sqrt_()"
)


@plain("bias_correction")
def bias_corrections(step, betas, correct_bias):
    if not correct_bias:
        return 1.0, 1.0
    b1, b2 = betas
    return 1 - b1**step, 1 - b2**step


bias_corrections.but(
    "this is (1 - b)^t; the share is 1 - b^t",
    "1 - b1**step, 1 - b2**step",
    "(1 - b1)**step, (1 - b2)**step",
)
bias_corrections.but(
    "`correct_bias` is taken the other way round: False means 1 and 1",
    "if not correct_bias",
    "if correct_bias",
)
bias_corrections.but("c2 is always 1; it is 1 - b2^t", "1 - b2**step", "1.0")
bias_corrections.but(
    "a beta may be 0, and has no logarithm; 0 to any power is 0",
    "1 - b1**step, 1 - b2**step",
    "1 - math.exp(step * math.log(b1)), 1 - math.exp(step * math.log(b2))",
)
bias_corrections.but(
    "both come from b1; c2 belongs to b2",
    "1 - b1**step, 1 - b2**step",
    "1 - b1**step, 1 - b1**step",
)


@plain("adam_update", of="efficient_update")
def efficient_update(param, m, v, lr, c1, c2, eps):
    rate = lr * math.sqrt(c2) / c1
    denominator = v.sqrt().add_(eps)
    param.addcdiv_(m, denominator, value=-rate)


efficient_update.but(
    "c1 and √c2 have changed places in the rate: it is lr √c2 / c1",
    "lr * math.sqrt(c2) / c1",
    "lr * c1 / math.sqrt(c2)",
)


@plain("adam_update", of="textbook_update")
def textbook_update(param, m, v, lr, c1, c2, eps):
    m_hat = m / c1
    v_hat = v / c2
    param.sub_(lr * m_hat / (v_hat.sqrt() + eps))


textbook_update.but("the root of v is missing in the textbook form", "v_hat.sqrt()", "v_hat")
textbook_update.but(
    "m is changed in place by its correction; the next step needs it as it was",
    "m_hat = m / c1",
    "m_hat = m.div_(c1)",
)
textbook_update.but(
    "the textbook form makes the parameter anew; change it in place",
    "param.sub_(lr * m_hat / (v_hat.sqrt() + eps))",
    "param = param - lr * m_hat / (v_hat.sqrt() + eps)",
)
textbook_update.but(
    "m and v are multiplied by c1 and c2; they are divided by them",
    "m / c1",
    "m * c1",
    "v / c2",
    "v * c2",
)
textbook_update.but("m and v are not corrected in the textbook form", "m / c1", "m", "v / c2", "v")
textbook_update.but("the rate is missing in the textbook form", "lr * m_hat", "m_hat")
textbook_update.but("v is divided by c1; c2 is its share", "v / c2", "v / c1")
textbook_update.but(
    "eps is added to the quotient; it belongs to the root, below",
    "lr * m_hat / (v_hat.sqrt() + eps)",
    "lr * m_hat / v_hat.sqrt() + eps",
)
textbook_update.but(
    "c2 is outside of the root; it is v that is divided by it",
    "(v_hat.sqrt() + eps)",
    "(v.sqrt() / c2 + eps)",
)


@plain("weight_decay")
def decay_weights(param, lr, weight_decay):
    param.mul_(1 - lr * weight_decay)


decay_weights.but(
    "this is exp(-lr · weight_decay); the share is 1 - lr · weight_decay",
    "1 - lr * weight_decay",
    "math.exp(-lr * weight_decay)",
)
decay_weights.but(
    "the same amount is taken from every number, by its sign; decay is a share of each",
    "param.mul_(1 - lr * weight_decay)",
    "param.sub_(lr * weight_decay * param.sign())",
)
decay_weights.but(
    "there is a 2 too many: p loses lr · weight_decay · p",
    "1 - lr * weight_decay",
    "1 - 2 * lr * weight_decay",
)
decay_weights.but(
    "there is a half too many: p loses lr · weight_decay · p",
    "1 - lr * weight_decay",
    "1 - lr * weight_decay / 2",
)
decay_weights.but(
    "the rate has a root; it comes in as it is",
    "1 - lr * weight_decay",
    "1 - lr ** 0.5 * weight_decay",
)
decay_weights.but(
    "these are two factors, 1 - lr and 1 - weight_decay; it is one, 1 less their product",
    "1 - lr * weight_decay",
    "(1 - lr) * (1 - weight_decay)",
)
decay_weights.but(
    "vectors are left out; which parameters decay is the groups' business, by their weight_decay",
    "    param.mul_",
    "    if param.dim() > 1:\n        param.mul_",
)
