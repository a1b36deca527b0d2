"""The attention modules of Tao et al. 2019 (arXiv 1907.04052) as layers.

A layer holds phi, a convolution shared by all images of a sample, and hands its output to the op.
Input is [B, M, D, H, W], or [B * M, D, H, W] when ``num_images`` is set, which fits a network that
folds the images into the batch; the output has the input's shape and type.
"""

import torch
from torch import Tensor, nn

from lesionkit.ops import contextual_attention, dual_attention, spatial_attention
from lesionkit.ops.checks import check_float_tensor, check_positive


class _Attention(nn.Module):
    """phi, its initial weights and the two input layouts."""

    def __init__(
        self,
        in_channels: int,
        temperature: float,
        kernel_size: int,
        init: str,
        num_images: int | None,
    ) -> None:
        super().__init__()
        _check_count("in_channels", in_channels)
        _check_count("kernel_size", kernel_size)
        if num_images is not None:
            _check_count("num_images", num_images)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        check_positive("temperature", temperature)
        if init not in ("normal", "zero"):
            raise ValueError(f"init must be 'normal' or 'zero', got {init!r}")
        self.in_channels = in_channels
        self.temperature = temperature
        self.init = init
        self.num_images = num_images
        self.phi = nn.Conv2d(in_channels, in_channels, kernel_size, padding=kernel_size // 2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of std 0.01 (3DCE's for its new layers) or zeros; zero bias."""
        if self.init == "zero":
            nn.init.zeros_(self.phi.weight)
        else:
            nn.init.normal_(self.phi.weight, std=0.01)
        nn.init.zeros_(self.phi.bias)

    def logits(self, x: Tensor) -> Tensor:
        """phi of every image: [B, M, D, H, W] for x of that shape."""
        return self.phi(x.flatten(0, 1)).reshape(x.shape)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, temperature={self.temperature:g}, init={self.init!r}, "
            f"num_images={self.num_images}"
        )


class ContextualAttention(_Attention):
    """Weighs each image's features against the other images' (Tao et al. 2019, Eq. 1-4).

    ``y = x * softmax(phi(x) / T) / max(softmax(phi(x) / T))``, softmax and maximum over the M
    images at each (channel, y, x). With ``init="zero"`` the layer starts as the exact identity.

    Args:
        in_channels: D. phi maps D to D channels.
        temperature: T; finite, > 0. Larger is softer.
        kernel_size: side of phi's kernel, odd.
        init: "normal" (std 0.01, zero bias) or "zero".
        num_images: M; needed for 4-D input only.

    Raises ValueError or TypeError naming the argument for wrong settings, type, channels or rank,
    and for input that does not hold ``num_images`` images a sample.
    """

    def __init__(
        self,
        in_channels: int,
        temperature: float = 2.0,
        kernel_size: int = 1,
        init: str = "normal",
        num_images: int | None = None,
    ) -> None:
        super().__init__(in_channels, temperature, kernel_size, init, num_images)

    def forward(
        self,
        x: Tensor,
        return_weights: bool = False,
        mask: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The attended x; with ``return_weights`` also the weights, of x's shape and in [0, 1].

        ``mask`` [B, M], bool, True where an image is present: a missing image gets weight 0 and
        does not count in the maximum. A sample without any image becomes NaN. ``logits`` of
        [B, M, D, H, W] is what :meth:`logits` gives, where it is known already.
        """
        samples = _samples(x, self.in_channels, self.num_images)
        logits = _mask_missing(self.logits(samples) if logits is None else logits, mask)
        y = contextual_attention(samples, logits, self.temperature).reshape(x.shape)
        if not return_weights:
            return y
        ones = torch.ones_like(samples)
        return y, contextual_attention(ones, logits, self.temperature).reshape(x.shape)


class SpatialAttention(_Attention):
    """Weighs each cell's features against the rest of its plane (Tao et al. 2019, Eq. 6-8).

    As :class:`ContextualAttention`, with softmax and maximum over each H x W plane.
    """

    def __init__(
        self,
        in_channels: int,
        temperature: float = 3.0,
        kernel_size: int = 1,
        init: str = "normal",
        num_images: int | None = None,
    ) -> None:
        super().__init__(in_channels, temperature, kernel_size, init, num_images)

    def forward(self, x: Tensor, return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """The attended x; with ``return_weights`` also the weights, of x's shape and in [0, 1]."""
        samples = _samples(x, self.in_channels, self.num_images)
        logits = self.logits(samples)
        y = spatial_attention(samples, logits, self.temperature).reshape(x.shape)
        if not return_weights:
            return y
        ones = torch.ones_like(samples)
        return y, spatial_attention(ones, logits, self.temperature).reshape(x.shape)


class DualAttention(nn.Module):
    """Contextual, then spatial attention: the module of 3DCE_CS_Att.

    Args:
        in_channels: D.
        contextual, spatial: which of the two to build; at least one.
        spatial_input: what the spatial phi sees. "refined": the contextual output, as the text and
            Eq. 8 of Tao et al. 2019 say. "raw": x itself, as Eq. 5 writes; both weights are then
            applied in one pass over memory.
        contextual_temperature, spatial_temperature, kernel_size, init, num_images: as in
            :class:`ContextualAttention`.
    """

    def __init__(
        self,
        in_channels: int,
        contextual: bool = True,
        spatial: bool = True,
        spatial_input: str = "refined",
        contextual_temperature: float = 2.0,
        spatial_temperature: float = 3.0,
        kernel_size: int = 1,
        init: str = "normal",
        num_images: int | None = None,
    ) -> None:
        super().__init__()
        if not (contextual or spatial):
            raise ValueError("contextual and spatial are both False; at least one must be True")
        if spatial_input not in ("refined", "raw"):
            raise ValueError(f"spatial_input must be 'refined' or 'raw', got {spatial_input!r}")
        # Each layer would call its own "temperature".
        check_positive("contextual_temperature", contextual_temperature)
        check_positive("spatial_temperature", spatial_temperature)
        self.in_channels = in_channels
        self.num_images = num_images
        self.spatial_input = spatial_input
        shared = {"kernel_size": kernel_size, "init": init, "num_images": num_images}
        self.contextual = (
            ContextualAttention(in_channels, contextual_temperature, **shared)
            if contextual
            else None
        )
        self.spatial = (
            SpatialAttention(in_channels, spatial_temperature, **shared) if spatial else None
        )

    def forward(
        self,
        x: Tensor,
        return_weights: bool = False,
        mask: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The attended x; with ``return_weights`` also {"contextual": a, "spatial": a}.

        The dict holds the weights of the modules that are on, of x's shape. ``mask`` and
        ``logits`` are those of :class:`ContextualAttention`; they need ``contextual=True``.
        """
        samples = _samples(x, self.in_channels, self.num_images)
        if self.contextual is None and not (mask is None and logits is None):
            raise ValueError("mask and logits need contextual=True: they are what it works on")
        if return_weights:
            y, weights = self._weigh(samples, mask, logits)
            return y.reshape(x.shape), {name: a.view(x.shape) for name, a in weights.items()}
        if self.spatial is None:
            y = self.contextual(samples, mask=mask, logits=logits)
        elif self.contextual is None:
            y = self.spatial(samples)
        elif self.spatial_input == "refined":
            y = self.spatial(self.contextual(samples, mask=mask, logits=logits))
        else:
            y = dual_attention(
                samples,
                _mask_missing(self.contextual.logits(samples) if logits is None else logits, mask),
                self.spatial.logits(samples),
                self.contextual.temperature,
                self.spatial.temperature,
            )
        return y.reshape(x.shape)

    def _weigh(
        self, x: Tensor, mask: Tensor | None, logits: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        y, weights = x, {}
        if self.contextual is not None:
            y, weights["contextual"] = self.contextual(x, True, mask, logits)
        if self.spatial is not None:
            source = y if self.spatial_input == "refined" else x
            _, weights["spatial"] = self.spatial(source, return_weights=True)
            y = y * weights["spatial"]
        return y, weights

    def extra_repr(self) -> str:
        return f"spatial_input={self.spatial_input!r}"


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")


def _samples(x: Tensor, in_channels: int, num_images: int | None) -> Tensor:
    """x as [B, M, D, H, W]."""
    check_float_tensor("x", x)
    if x.dim() == 4:
        if num_images is None:
            raise ValueError(
                "x has 4 dimensions; set num_images to take [B * M, D, H, W], "
                "or pass [B, M, D, H, W]"
            )
        if x.shape[0] % num_images:
            raise ValueError(
                f"x must have a multiple of num_images ({num_images}) images, got {x.shape[0]}"
            )
    elif x.dim() != 5:
        raise ValueError(f"x must have 4 or 5 dimensions, got shape {tuple(x.shape)}")
    elif num_images is not None and x.shape[1] != num_images:
        raise ValueError(
            f"x must have num_images ({num_images}) images a sample, got {x.shape[1]}: "
            f"shape {tuple(x.shape)}"
        )
    if x.shape[-3] != in_channels:
        raise ValueError(f"x must have {in_channels} channels, got {x.shape[-3]}")
    return x if x.dim() == 5 else x.unflatten(0, (-1, num_images))


def _mask_missing(logits: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return logits
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask must be a tensor, got {type(mask).__name__}")
    if mask.shape != logits.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"mask must be bool of shape {tuple(logits.shape[:2])}, "
            f"got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    return logits.masked_fill(~mask[:, :, None, None, None], -torch.inf)
