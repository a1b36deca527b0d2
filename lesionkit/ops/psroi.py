"""Position-sensitive RoI pooling (R-FCN: Dai et al. 2016, as used by 3DCE: Yan et al. 2018)."""

from collections.abc import Sequence

from torch import Tensor

from lesionkit.ops.arrays import call_with_cupy, is_cupy
from lesionkit.ops.backends import resolve
from lesionkit.ops.psroi_definition import pool_by_definition
from lesionkit.ops.registration import register_op
from lesionkit.ops.rois import checked_rois


def ps_roi_pool(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int = 7,
    spatial_scale: float = 1 / 8,
    convention: str = "rfcn",
) -> Tensor:
    """Average position-sensitive maps over the G x G bins of each region of interest.

    Output channel t of bin (i, j) is the mean of input channel (t*G + i)*G + j over the bin's
    cells. On the x axis a box covers, with round() half away from zero and before scaling,
    start = round(x1) * scale to end = (round(x2) + 1) * scale, at least 0.1 cells; bin j covers
    the cells floor(start + j * width/G) to ceil(start + (j + 1) * width/G), clipped to the map;
    y likewise. An empty bin gives 0. The gradient goes to the features only and is the same, bit
    for bit, in every run and for any number of threads.

    Args:
        features: [B, C*G*G, H, W] float64, float32, float16 or bfloat16, of any memory layout.
            Sums are taken in float32 (float64 for float64). CuPy arrays are taken too, and give a
            CuPy array.
        rois: [K, 5] (sample index, x1, y1, x2, y2) in image pixels, or a list of B tensors
            [K_b, 4] (x1, y1, x2, y2). The bins are computed in float32, in float64 for float64
            rois, whatever the type of the features. A roi with a NaN or infinite number, a sample
            index outside 0..B-1, or coordinates that overflow when scaled, gives zeros.
        output_size: G, bins per side.
        spatial_scale: feature cells per image pixel.
        convention: "rfcn" as above (R-FCN, MXNet, 3DCE), or "torchvision": the forward of
            torchvision.ops.ps_roi_pool, which rounds after scaling, adds no pixel, makes boxes at
            least 1 cell wide and never pools the last row and column; the gradient is that of
            this forward.

    Returns:
        [K, C, G, G] in the type of features.

    Raises:
        TypeError, ValueError: an argument is of the wrong type, shape, device or value.
        RuntimeError: the chosen backend cannot run on the device of features.
    """
    if is_cupy(features):
        options = output_size, spatial_scale, convention
        return call_with_cupy(ps_roi_pool, features, rois, *options)
    rois = checked_rois(features, rois, output_size, spatial_scale, convention)
    backend = resolve(features)
    if backend == "reference":
        return pool_by_definition(features, rois, output_size, spatial_scale, convention)
    return _calls[backend](features, rois, int(output_size), float(spatial_scale), convention)


def ps_roi_pool_reference(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int = 7,
    spatial_scale: float = 1 / 8,
    convention: str = "rfcn",
) -> Tensor:
    """`ps_roi_pool` written out from its definition, roi by roi and bin by bin, in plain torch.

    Same arguments, result and errors. Slow; it reads the rois on the host.
    """
    rois = checked_rois(features, rois, output_size, spatial_scale, convention)
    return pool_by_definition(features, rois, output_size, spatial_scale, convention)


def _fake(features, rois, output_size, spatial_scale, convention):
    channels = features.shape[1] // output_size**2
    return features.new_empty(rois.shape[0], channels, output_size, output_size)


def _backward_fake(grad, rois, batch, height, width, spatial_scale, convention):
    _, channels, bins, _ = grad.shape
    return grad.new_empty(batch, channels * bins * bins, height, width)


def _setup_context(ctx, inputs, output):
    features, rois, _, ctx.spatial_scale, ctx.convention = inputs
    ctx.save_for_backward(rois)
    ctx.batch, _, ctx.height, ctx.width = features.shape


def _backward(ctx, grad, call_backward):
    (rois,) = ctx.saved_tensors
    geometry = ctx.batch, ctx.height, ctx.width, ctx.spatial_scale, ctx.convention
    return call_backward(grad, rois, *geometry), None, None, None, None


_calls = register_op(
    "ps_roi_pool",
    "psroi",
    fake=_fake,
    backward_fake=_backward_fake,
    setup_context=_setup_context,
    backward=_backward,
)
