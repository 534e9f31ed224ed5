"""How good a retouch is: pixel metrics as the field computes them, and the error of the motion itself.

Whole-image PSNR and SSIM barely tell a retouch from doing nothing, since most pixels never
change. So each number has a counterpart inside the edited region, and `relative_epe` compares
the motion: 0 is perfect, 1 is what returning the query unchanged scores.

PSNR and SSIM equal torchmetrics' with data_range 1 (SSIM: Gaussian 11 x 11, sigma 1.5,
k1 0.01, k2 0.03). Pictures are (B, C, H, W) in [0, 1]; results are one number per picture, (B,).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SSIM_SIGMA = 1.5
_SSIM_RADIUS = 5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, (B,).  Infinite where the pictures are equal."""
    _check_same_shape(prediction, target)
    return _decibel((prediction.double() - target.double()).square().mean((1, 2, 3)))


def region_psnr(prediction: Tensor, target: Tensor, region: Tensor) -> Tensor:
    """PSNR over the pixels of a region, (B,).  region: (B or 1, 1, H, W) of 0 and 1."""
    _check_same_shape(prediction, target)
    error = (prediction.double() - target.double()).square().mean(1, keepdim=True)
    return _decibel(_mean_over(error, region))


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity, (B,).  The picture is mirrored at its border, as torchmetrics does."""
    _check_same_shape(prediction, target)
    size = 2 * _SSIM_RADIUS + 1
    if min(target.shape[-2:]) < size:
        raise ValueError(f"ssim() got {tuple(target.shape[-2:])} pixels: its window needs {size}x{size} or more")
    batch, channels, height, width = target.shape
    x, y = (picture.reshape(-1, 1, height, width).float() for picture in (prediction, target))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _window_mean(torch.cat([x, y, x * x, y * y, x * y], 1)).unbind(1)
    var_x = (mean_xx - mean_x * mean_x).clamp_min(0)
    var_y = (mean_yy - mean_y * mean_y).clamp_min(0)
    covariance = mean_xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _SSIM_C1) / (mean_x * mean_x + mean_y * mean_y + _SSIM_C1)
    structure = (2 * covariance + _SSIM_C2) / (var_x + var_y + _SSIM_C2)
    return (luminance * structure).reshape(batch, -1).mean(1)


def relative_epe(prediction: Tensor, target: Tensor, region: Tensor) -> Tensor:
    """Mean end-point error over a region / mean length of the true motion there, (B,).

    prediction, target: (B, 2, H, W) displacements.  region: (B or 1, 1, H, W) of 0 and 1.
    """
    _check_same_shape(prediction, target)
    length = _mean_over(target.double().norm(dim=1, keepdim=True), region)
    if not (length > 0).all():
        raise ValueError("relative_epe() got a target that does not move in the region: there is no motion to compare")
    return _mean_over((prediction.double() - target.double()).norm(dim=1, keepdim=True), region) / length


def _window_mean(planes: Tensor) -> Tensor:
    """Gaussian-weighted mean around every pixel.  (B, C, H, W) -> (B, C, H, W)."""
    offsets = torch.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1, dtype=planes.dtype, device=planes.device)
    kernel = torch.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    separate = F.pad(planes.flatten(0, 1)[:, None], (_SSIM_RADIUS,) * 4, mode="reflect")
    across = F.conv2d(separate, kernel.view(1, 1, 1, -1))
    means = F.conv2d(across, kernel.view(1, 1, -1, 1))
    return means.unflatten(0, planes.shape[:2])[:, :, 0]


def _mean_over(values: Tensor, region: Tensor) -> Tensor:
    """(B, 1, H, W), (B or 1, 1, H, W) -> (B,)."""
    if region.shape[-2:] != values.shape[-2:] or region.shape[1] != 1:
        raise ValueError(
            f"region {tuple(region.shape)} does not fit pixels {tuple(values.shape)}: pass (B or 1, 1, H, W)"
        )
    weight = region.to(values.dtype)
    area = weight.sum((1, 2, 3))
    if not (area > 0).all():
        raise ValueError("the region is empty: there are no pixels to score. Skip this picture, or widen the region")
    return (values * weight).sum((1, 2, 3)) / area


def _decibel(mean_squared_error: Tensor) -> Tensor:
    return -10 * torch.log10(mean_squared_error)


def _check_same_shape(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or target.ndim != 4:
        raise ValueError(
            f"cannot compare {tuple(prediction.shape)} with {tuple(target.shape)}: pass two (B, C, H, W) "
            "of the same size; resize the prediction to the target first"
        )
