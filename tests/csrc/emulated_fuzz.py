"""Random small calls of the emulated kernels, for a run under the address sanitizer.

Every tensor has memory of its own that ends with its last number, some begin off alignment. Results
begin as NaN: one that is not written differs from the reference.
"""

import random
import sys
from pathlib import Path

import torch

import lesionkit
from tests.csrc import emulated
from tests.csrc.emulated_psroi import ps_roi_pool
from tests.csrc.test_cuda_emulated_psroi import hostile_rois
from tests.ops.attention_contract import inputs, with_gradients
from tests.tolerances import assert_close

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def attention_call(emulator: emulated.Emulator) -> None:
    kernel = random.choice(["contextual", "spatial", "dual"])
    shape = [random.randint(1, limit) for limit in (2, 11, 3, 9, 20)]
    if random.random() < 0.3:
        shape[3:] = random.choice([(8, 8), (1, 1), (16, 12), (37, 29), (64, 33)])
    x_type = random.choice(TYPES)
    logits_type = x_type if random.random() < 0.6 else random.choice(TYPES)
    contract = emulated.attention(emulator, kernel, random.choice([0, 0, 1, 3]))()
    ties = random.random() < 0.5
    contract.check(inputs(contract.num_logits, shape, x_type, logits_type, ties=ties))


def psroi_call(emulator: emulated.Emulator) -> None:
    batch, channels, bins = random.randint(1, 3), random.randint(1, 6), random.choice([1, 2, 3, 7])
    height, width = random.choice([(1, 1), (5, 3), (3, 64), (16, 12), (37, 29), (1, 300)])
    features = torch.randn(batch, channels * bins**2, height, width).to(random.choice(TYPES))
    rois = hostile_rois(random.choice([0, 1, 9, 150]), batch, 8 * max(height, width))
    rois = rois.to(random.choice([torch.float32, torch.float64]))
    arguments = rois, bins, 1 / 8, random.choice(["rfcn", "torchvision"])
    pool = ps_roi_pool(emulator, random.choice([0, 0, 1, 3]))
    actual = with_gradients(lambda leaf: pool(leaf, *arguments), [features])
    # The CPU's kernels in float64: the reference's loops take a thousand times as long.
    expected = with_gradients(
        lambda leaf: lesionkit.ps_roi_pool(leaf, *arguments), [features.double()]
    )
    for result, oracle in zip(actual, expected, strict=True):
        assert_close(result, oracle)


def overrun(emulator: emulated.Emulator) -> None:
    """Reads one roi past the end."""
    features, rois, pooled = torch.randn(1, 1, 4, 4), torch.zeros(3, 5), torch.empty(4, 1, 1, 1)
    types, sizes = (torch.float32, torch.float32), (4, 1, 1, 1, 4, 4)
    emulator.call("psroi_forward", features, rois, pooled, *types, *sizes, 1.0, 0)


def main(library: str, calls: str) -> None:
    """`calls` sound calls, and then one that the sanitizer must stop."""
    emulator = emulated.Emulator(Path(library))
    random.seed(0)
    torch.manual_seed(0)
    for number in range(int(calls)):
        emulator.seed(number % 3)
        (psroi_call if number % 4 == 0 else attention_call)(emulator)
    print(f"{calls} calls", flush=True)
    overrun(emulator)


if __name__ == "__main__":
    main(*sys.argv[1:])
