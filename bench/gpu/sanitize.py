"""A small case of every kernel, for compute-sanitizer: python -m bench.gpu.sanitize BACKEND

Sizes are small, since the sanitizer slows kernels a hundredfold, but take every path: aligned and
odd planes, planes that fit in registers and that do not, few and many images and rois.
"""

import sys

import torch

import lesionkit

ATTENTION_SHAPES = [
    (1, 3, 4, 16, 16),
    (2, 5, 3, 5, 7),
    (1, 9, 2, 32, 33),
    (1, 2, 1, 1, 1),
    (1, 1, 1, 160, 161),  # a plane that no register file holds
]
POOLING_CASES = [(1, 49 * 2, 24, 24, 20), (2, 4 * 3, 37, 41, 300), (1, 1, 300, 210, 5)]


def main(backend: str) -> None:
    torch.manual_seed(0)
    lesionkit.use_backend(backend)
    for shape in ATTENTION_SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            x, first, second = (
                torch.randn(shape, device="cuda").to(dtype).requires_grad_() for _ in range(3)
            )
            lesionkit.contextual_attention(x, first).sum().backward()
            lesionkit.spatial_attention(x, first).sum().backward()
            lesionkit.dual_attention(x, first, second).sum().backward()
    for batch, channels, height, width, count in POOLING_CASES:
        side = {98: 7, 12: 2, 1: 1}[channels]
        features = torch.randn(batch, channels, height, width, device="cuda", requires_grad=True)
        ends = torch.rand(count, 2, 2, device="cuda").sort(1).values.flatten(1) * 8 * width
        index = torch.randint(batch, (count, 1), device="cuda")
        rois = torch.cat([index, ends], dim=1)
        for convention in ("rfcn", "torchvision"):
            for typed in (rois, rois.double()):
                pooled = lesionkit.ps_roi_pool(features, typed, side, 1 / 8, convention)
                pooled.sum().backward()
    torch.cuda.synchronize()
    print(f"{backend}: every kernel ran")


if __name__ == "__main__":
    main(sys.argv[1])
