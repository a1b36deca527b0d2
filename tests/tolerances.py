"""How far a result may be from its float64 reference, by the type it is stored in."""

import torch

# Half a unit in the last place of the stored type, plus the float32 arithmetic in between.
TOLERANCES = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-13},
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
    torch.float16: {"rtol": 1e-3, "atol": 1e-5},
    torch.bfloat16: {"rtol": 8e-3, "atol": 1e-5},
}
