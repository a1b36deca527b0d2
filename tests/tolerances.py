"""How far a result may be from its float64 reference, by the type it is stored in."""

import torch

# Half a unit in the last place of the stored type, plus the float32 arithmetic in between.
TOLERANCES = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-13},
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
    torch.float16: {"rtol": 1e-3, "atol": 1e-5},
    torch.bfloat16: {"rtol": 8e-3, "atol": 1e-5},
}


def assert_close(actual: torch.Tensor, expected: torch.Tensor, terms: int = 1) -> None:
    """Compare with a float64 reference, NaN where it is NaN, in the tolerance of actual's type.

    Sums of a column or plane lose their last digits against their largest terms, so the absolute
    tolerance grows with the largest expected number, and with the root of the `terms` of a sum
    where they are many.
    """
    limits = TOLERANCES[actual.dtype]
    finite = expected[expected.isfinite()].abs()
    largest = finite.max().item() if finite.numel() else 0.0
    growth = max(1.0, largest) * max(1.0, terms**0.5 / 16)
    torch.testing.assert_close(
        actual.double(),
        expected.double(),
        rtol=limits["rtol"],
        atol=limits["atol"] * growth,
        equal_nan=True,
    )
