"""What PSROI pooling computes, on every backend on the GPU: the tests of the CPU and more."""

import pytest
import torch

import lesionkit
from tests.gpu import BACKENDS, DTYPES, gpu
from tests.gpu.transfer import on_gpu
from tests.ops import test_psroi
from tests.ops.test_psroi import (  # noqa: F401
    random_rois,
    test_bad_feature_stays_in_its_bins,
    test_empty_input,
    test_list_of_boxes,
    test_output_channel_reads_its_group,
    test_rounding_and_clipping,
    test_sample_index_is_truncated,
    test_scaling_comes_after_rounding,
    test_sixteen_bit_rois_are_widened,
    test_torchvision_convention_worked_by_hand,
    test_torchvision_rounding_and_clipping,
    test_two_by_two_bins_worked_by_hand,
    test_unusable_roi_gives_zeros_and_no_gradient,
)
from tests.tolerances import assert_close

pytestmark = gpu


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(test_psroi, "ps_roi_pool", on_gpu(lesionkit.ps_roi_pool))
    with lesionkit.use_backend(request.param):
        yield request.param


@pytest.mark.parametrize("convention", ["rfcn", "torchvision"])
@pytest.mark.parametrize("rois_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "batch, out, bins, height, width, count",
    [
        (1, 10, 7, 64, 64, 300),
        (2, 3, 7, 17, 23, 40),
        (3, 2, 3, 61, 47, 5),
        (1, 2, 2, 300, 210, 9),  # maps larger than shared memory
        (1, 1, 1, 5, 5, 2000),
    ],
)
def test_matches_reference(batch, out, bins, height, width, count, dtype, rois_dtype, convention):
    features = torch.randn(batch, out * bins * bins, height, width).to(dtype)
    rois = random_rois(count, batch, 8 * max(height, width), rois_dtype)
    device = features.cuda().requires_grad_()
    pooled = lesionkit.ps_roi_pool(device, rois.cuda(), bins, 1 / 8, convention)
    grad = torch.randn(pooled.shape).mul(8).round().div(8)
    (gradient,) = torch.autograd.grad(pooled, device, grad.to(dtype).cuda())
    wide = features.double().requires_grad_()
    with lesionkit.use_backend("cpu"):  # tested against the reference, which is slow
        expected = lesionkit.ps_roi_pool(wide, rois, bins, 1 / 8, convention)
    assert_close(pooled.cpu(), expected.detach())
    assert_close(gradient.cpu(), torch.autograd.grad(expected, wide, grad.double())[0])


def test_registration(backend):
    namespace = "lesionkit" if backend == "cuda" else f"lesionkit_{backend}"
    op = getattr(torch.ops, namespace).ps_roi_pool.default
    features = torch.randn(2, 8, 9, 11, device="cuda", requires_grad=True)
    results = torch.library.opcheck(op, (features, random_rois(5, 2, 80).cuda(), 2, 1 / 8, "rfcn"))
    assert set(results.values()) == {"SUCCESS"}
