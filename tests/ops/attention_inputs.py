"""Inputs of the attention ops for tests, and results with gradients."""

import torch


def inputs(num_logits, shape, dtype=torch.float32, logits_dtype=None, seed=0, ties=False):
    """x and logits; with `ties` the logits are small integers, so that most groups have ties."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator).to(dtype)
    logits = [3 * torch.randn(shape, generator=generator) for _ in range(num_logits)]
    if ties:
        logits = [tensor.round() for tensor in logits]
    return [x, *(tensor.to(logits_dtype or dtype) for tensor in logits)]


def with_gradients(op, tensors, *temperatures):
    """The result of op and, for a random upstream gradient, the gradients of all tensors."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    y = op(*leaves, *temperatures)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    upstream = upstream.mul(8).round().div(8)  # the same number in every type
    return [y.detach(), *torch.autograd.grad(y, leaves, upstream.to(y.dtype))]
