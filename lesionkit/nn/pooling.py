"""Position-sensitive roi pooling as a layer."""

from torch import Tensor, nn

from lesionkit.ops import ps_roi_pool
from lesionkit.ops.checks import check_output_size, check_positive
from lesionkit.ops.rois import CONVENTIONS


class PSRoIPool(nn.Module):
    """:func:`lesionkit.ops.ps_roi_pool` with its settings (R-FCN, Dai et al. 2016).

    ``forward(features, rois)``: features [B, C * G * G, H, W]; rois [K, 5] (sample index, x1, y1,
    x2, y2) or a list of [K_b, 4]; returns [K, C, G, G] with G = ``output_size``. Coordinates are
    pixels of the image; ``spatial_scale`` is the feature map's share of them, 1 / stride.

    Raises TypeError or ValueError naming the setting that the op would refuse.
    """

    def __init__(self, output_size: int, spatial_scale: float, convention: str = "rfcn") -> None:
        super().__init__()
        check_output_size(output_size)
        check_positive("spatial_scale", spatial_scale)
        if convention not in CONVENTIONS:
            raise ValueError(
                f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}"
            )
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.convention = convention

    def forward(self, features: Tensor, rois: Tensor | list[Tensor]) -> Tensor:
        return ps_roi_pool(features, rois, self.output_size, self.spatial_scale, self.convention)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale:g}, "
            f"convention={self.convention!r}"
        )
