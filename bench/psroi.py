"""PSROI pooling on the CPU against torchvision, forward and backward.

    python -m bench.psroi [--rois 300] [--images 5]

300 random boxes of 16 to 120 pixels, as lesions have, on the 490 maps of each image at stride 8.
torchvision computes another pooling (see the convention "torchvision"); ours takes the same time
with either. The lower bound on memory traffic: the forward reads the features once, the backward
writes their gradient once.
"""

import argparse

import torch
import torchvision

import lesionkit
from bench.measure import header, medians, report, reuse_memory

SCALE, SIZE = 1 / 8, 64


def lesion_boxes(count: int) -> torch.Tensor:
    """[count, 5] boxes of 16 to 120 pixels inside the image of sample 0."""
    extent = 16 + 104 * torch.rand(count, 2)
    first = torch.rand(count, 2) * (SIZE / SCALE - extent)
    return torch.cat([torch.zeros(count, 1), first, first + extent], dim=1)


def run(images: int, count: int, convention: str) -> None:
    features = torch.randn(1, 490 * images, SIZE, SIZE)
    rois = lesion_boxes(count)
    ours, peer = f"lesionkit, {convention}", "torchvision"

    def pool(x):
        return lesionkit.ps_roi_pool(x, rois, 7, SCALE, convention)

    def pool_peer(x):
        return torchvision.ops.ps_roi_pool(x, rois, 7, SCALE)

    leaf = features.clone().requires_grad_()
    pooled, pooled_peer = pool(leaf), pool_peer(leaf)
    grad = torch.randn_like(pooled)
    moved = features.nbytes + pooled.nbytes
    title = f"{count} rois on {list(features.shape)}"
    forward = {ours: lambda: pool(features), peer: lambda: pool_peer(features)}
    report(f"forward, {title}", ours, medians(forward), {ours: moved})
    backward = {
        ours: lambda: torch.autograd.grad(pooled, leaf, grad, retain_graph=True),
        peer: lambda: torch.autograd.grad(pooled_peer, leaf, grad, retain_graph=True),
    }
    report(f"backward, {title}", ours, medians(backward), {ours: moved})


if __name__ == "__main__":
    reuse_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5, help="M: 490 feature channels each")
    parser.add_argument("--rois", type=int, default=300)
    parser.add_argument("--convention", default="rfcn", choices=("rfcn", "torchvision"))
    arguments = parser.parse_args()
    header()
    run(arguments.images, arguments.rois, arguments.convention)
