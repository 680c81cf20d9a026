"""Hand-written gradients of the layers that fill most of a step, each equal to its plain form in `models`.

One door: with `enabled = False`, or FAST=0 in the environment, every network runs in the plain form, by autograd alone.
`dropout_factors` is of the company: no gradient, but random numbers that are drawn in a fraction of torch's time.
Here are tensors only, no modules; `tests/models/test_fast.py` holds each form to the plain one, values and gradients.
"""

import os

import torch
from torch import Tensor

from models.fast.graph_products import convolve, convolve_and_attend
from models.fast.norm_relu_dropout import dropout_factors, norm_relu_dropout

__all__ = ["convolve", "convolve_and_attend", "dropout_factors", "enabled", "norm_relu_dropout", "takes", "takes_norm"]

enabled = os.environ.get("FAST", "1") != "0"


def takes() -> bool:
    """Whether the fast forms are used: not for a compiler, which makes its own."""
    return not torch.compiler.is_compiling() and enabled


def takes_norm(x: Tensor, weight: Tensor, p: float) -> bool:
    """Whether `norm_relu_dropout` gains for rows x: (N, C): on a CPU, of the weight's type or bfloat16."""
    known = x.device.type == "cpu" and x.dtype in (weight.dtype, torch.bfloat16)
    return takes() and known and x.dim() == 2 and len(x) > 1 and x.is_contiguous() and p < 1
