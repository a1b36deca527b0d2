"""Contextual attention: weights across the M images of a sample (Tao et al. 2019, Eq. 2-4)."""

import torch
from torch import Tensor

from lesionkit.ops.arrays import call_with_cupy, is_cupy
from lesionkit.ops.backends import resolve
from lesionkit.ops.checks import check_attention, check_positive
from lesionkit.ops.registration import register_attention

_calls = register_attention("contextual_attention", "contextual", num_logits=1)


def contextual_attention(x: Tensor, logits: Tensor, temperature: float = 2.0) -> Tensor:
    """Weight each feature by how it compares with the same cell of the sample's other images.

    The paper takes the softmax of logits / temperature over the M images, divides it by its
    maximum over M, and multiplies x. The sum of the softmax cancels, which leaves
    ``x * exp((logits - max_m logits) / temperature)``: one pass over memory.

    A -inf logit gets weight 0 (a missing image); a NaN or +inf logit, or -inf in all M images,
    makes the column NaN, as in ``torch.softmax``. Tied maxima share the gradient evenly, as in
    ``torch.amax``. There is no second derivative.

    Args:
        x: features [B, M, D, H, W], float64, float32, float16 or bfloat16, of any layout. CuPy
            arrays are taken too, and give a CuPy array.
        logits: [B, M, D, H, W], of any of these types. Arithmetic is in float32, in float64 if x
            or logits is float64.
        temperature: softens the weights, above 0. torch.compile compiles anew for each value; for
            a schedule of temperatures divide the logits instead.

    Returns:
        [B, M, D, H, W] in x's type, contiguous.

    Raises:
        TypeError, ValueError: an argument is of the wrong type, shape, device or value.
        RuntimeError: the chosen backend cannot run on x's device.
    """
    if is_cupy(x):
        return call_with_cupy(contextual_attention, x, logits, temperature)
    check_attention(x, logits=logits)
    check_positive("temperature", temperature)
    backend = resolve(x, logits)
    if backend == "reference":
        return _paper_steps(x, logits, temperature)
    return _calls[backend](x, logits, float(temperature))


def contextual_attention_reference(x: Tensor, logits: Tensor, temperature: float = 2.0) -> Tensor:
    """`contextual_attention` as the paper writes it: softmax, divide by its maximum, multiply.

    Same arguments, result and errors, in plain torch; twice differentiable.
    """
    check_attention(x, logits=logits)
    check_positive("temperature", temperature)
    return _paper_steps(x, logits, temperature)


def _paper_steps(x: Tensor, logits: Tensor, temperature: float) -> Tensor:
    if x.numel() == 0:
        return (x * logits).to(x.dtype)  # a maximum over nothing does not exist
    wide = torch.promote_types(torch.promote_types(x.dtype, logits.dtype), torch.float32)
    if not 1e-30 < temperature < 1e30:
        wide = torch.float64  # logits / temperature would leave float32's range
    weights = torch.softmax(logits.to(wide) / temperature, dim=1)
    weights = weights / weights.amax(dim=1, keepdim=True)
    return (x.to(wide) * weights).to(x.dtype)
