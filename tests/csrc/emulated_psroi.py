"""PSROI pooling by the emulated CUDA kernels."""

import torch

from tests.csrc.emulated import Emulator, misaligned


def ps_roi_pool(emulator: Emulator, offset: int = 0):
    """`lesionkit.ps_roi_pool` by the emulated kernels."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, features, rois, bins, scale, convention):
            batch, channels, height, width = features.shape
            shape = len(rois), batch, channels // bins**2, bins, height, width
            ctx.geometry = *shape, float(scale), ("rfcn", "torchvision").index(convention)
            ctx.rois = misaligned(rois, offset)
            pooled = features.new_full((len(rois), channels // bins**2, bins, bins), torch.nan)
            pooled = misaligned(pooled, offset)
            features = misaligned(features, offset)
            types = features.dtype, rois.dtype
            emulator.call("psroi_forward", features, ctx.rois, pooled, *types, *ctx.geometry)
            return pooled

        @staticmethod
        def backward(ctx, grad):
            _, batch, channels, bins, height, width, *_ = ctx.geometry
            result = grad.new_full((batch, channels * bins**2, height, width), torch.nan)
            result = misaligned(result, offset)
            grad = misaligned(grad, offset)
            types = grad.dtype, ctx.rois.dtype
            emulator.call("psroi_backward", grad, ctx.rois, result, *types, *ctx.geometry)
            return result, None, None, None, None

    def pool(features, rois, bins=7, scale=1 / 8, convention="rfcn"):
        return Function.apply(features, rois, bins, scale, convention)

    return pool
