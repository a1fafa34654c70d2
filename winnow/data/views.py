"""Views of images: plain, weak and strong, made on the batch from uint8 pictures in memory or on disk.

Every parameter of a view is a function of (seed, purpose, epoch, sample index), see `randomness`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from winnow.data.pixels import ArrayPixels, Pixels, PixelsPart, blocks
from winnow.data.randomness import stream_key, uniforms

# Strong views: the ranges are those of common practice (RandAugment at a middle magnitude), for one tensor operation
# each.
_ROTATION = 0.26  # radians, 15 degrees
_SCALE = 0.15
_SHEAR = 0.10
_BRIGHTNESS = 0.25  # of the standard deviation of the collection, additive
_CONTRAST = 0.4
_SATURATION = 0.5
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 pixels become network input: size, channels and the collection's own mean and spread.

    Attributes:
        size: height and width in pixels.
        channels: 1 or 3.
        mean: per channel, of pixels in [0, 1].
        std: per channel, of pixels in [0, 1].
        mirror: whether views may be mirrored.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool

    @classmethod
    def of(cls, images: np.ndarray | Pixels, mirror: bool) -> Preprocessing:
        """Measures mean and spread on some 5,000 evenly spaced images (n, size, size, channels)."""
        pixels = ArrayPixels(images) if isinstance(images, np.ndarray) else images
        rows = np.arange(0, len(pixels), max(1, len(pixels) // 5000))
        histogram = np.zeros((pixels.shape[3], 256), dtype=np.int64)
        for block in blocks(PixelsPart(pixels, rows)):
            histogram += [np.bincount(channel, minlength=256) for channel in block.reshape(-1, pixels.shape[3]).T]
        values = np.arange(256) / 255
        mean = [float(counts @ values / counts.sum()) for counts in histogram]
        spread = [
            float(np.sqrt(counts @ (values - m) ** 2 / counts.sum())) for counts, m in zip(histogram, mean, strict=True)
        ]
        # A collection of one flat colour has no spread; its pixels then stay where they are.
        std = tuple(s if s > 1e-3 else 1.0 for s in spread)
        return cls(pixels.shape[1], pixels.shape[3], tuple(mean), std, mirror)


def on_device(pixels: Pixels, device: torch.device) -> Tensor | Pixels:
    """Pictures in memory as one tensor on the device, if they take at most half of what is free there."""
    if not isinstance(pixels, ArrayPixels):
        return pixels
    if device.type == "cuda" and pixels.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return pixels
    with warnings.catch_warnings():
        # Pictures of a published file may not be written to; nothing here does, and a copy could fill the memory.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(pixels.images).to(device)


@dataclass
class Views:
    """Makes float views of rows of a collection.

    Args:
        pixels: the whole collection, uint8 (N, size, size, channels): a tensor, or pictures that are taken from memory
            or disk batch by batch. The views have the same bits either way.
        preprocessing: normalisation and whether mirroring keeps the class.
        seed: of the run.
        device: where views are made; None is where the tensor is.
    """

    pixels: UInt8[Tensor, "n size size channels"] | Pixels
    preprocessing: Preprocessing
    seed: int
    device: torch.device | None = None
    _scale: Tensor = field(init=False, repr=False)
    _shift: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.device is None:
            self.device = self.pixels.device if isinstance(self.pixels, Tensor) else torch.device("cpu")
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (self.preprocessing.mean, self.preprocessing.std))
        self._scale = (1 / (255 * std)).float().to(self.device)
        self._shift = (-mean / std).float().to(self.device)

    def part(self, rows: np.ndarray) -> Views:
        """Views of some rows alone, numbered anew."""
        if isinstance(self.pixels, Tensor):
            return replace(self, pixels=self.pixels[torch.from_numpy(rows).to(self.pixels.device)])
        return replace(self, pixels=PixelsPart(self.pixels, rows))

    @property
    def reach(self) -> int:
        """Largest shift of a weak view in pixels: an eighth of the side, a fourteenth for grey drawings."""
        share = 8 if self.preprocessing.channels == 3 else 14
        return max(1, round(self.preprocessing.size / share))

    def view(self, kind: str, indices: np.ndarray, epoch: int, purpose: str) -> Float[Tensor, "batch c h w"]:
        """One view of each sample, normalised, (B, C, H, W) in channels-last memory.

        Args:
            kind: `plain`, `weak` (shift and mirror) or `strong` (also warped, recoloured and with a patch cut out).
            indices: rows of the collection, int64 (B,).
            epoch: with `purpose`, names the stream of random numbers.
            purpose: two views of one sample in one step differ by their purpose.
        """
        if kind == "plain":
            return self._normalised(self._taken(indices))
        numbers = uniforms(stream_key(self.seed, f"{kind}/{purpose}", epoch), indices, 3 if kind == "weak" else 16)
        images = self._normalised(self._shifted(self._taken(indices), numbers))
        if kind == "weak":
            return images
        if kind == "strong" and not len(indices):
            return images  # torch warps no empty batch
        if kind == "strong":
            return self._distorted(images, torch.from_numpy(numbers[:, 3:]).float().to(images.device))
        raise ValueError(f"view must be plain, weak or strong, got {kind!r}")

    def _taken(self, indices: np.ndarray) -> UInt8[Tensor, "batch h w c"]:
        if isinstance(self.pixels, Tensor):
            return self.pixels.index_select(0, torch.from_numpy(indices).to(self.pixels.device))
        return torch.from_numpy(self.pixels.take(indices)).to(self.device)

    def _normalised(self, pixels: UInt8[Tensor, "batch h w c"]) -> Float[Tensor, "batch c h w"]:
        return torch.addcmul(self._shift, pixels.float(), self._scale).permute(0, 3, 1, 2)

    def _shifted(self, images: UInt8[Tensor, "batch h w c"], numbers: np.ndarray) -> UInt8[Tensor, "batch h w c"]:
        """Reads each image at shifted, perhaps mirrored coordinates, reflected at the border: no padded copy exists."""
        size, channels = self.preprocessing.size, self.preprocessing.channels
        reach = min(self.reach, size - 1)
        steps = np.floor(numbers[:, :2] * (2 * reach + 1)).astype(np.int64) - reach
        across = np.arange(size)
        rows = _reflected(across + steps[:, :1], size)
        columns = _reflected(across + steps[:, 1:2], size)
        if self.preprocessing.mirror:
            columns = np.where(numbers[:, 2:3] < 0.5, columns[:, ::-1], columns)
        starts = torch.from_numpy(np.arange(len(images))[:, None] * size + rows).to(images.device) * size
        places = starts[:, :, None] + torch.from_numpy(columns).to(images.device)[:, None, :]
        return images.view(-1, channels).index_select(0, places.view(-1)).view(-1, size, size, channels)

    def _distorted(
        self, images: Float[Tensor, "batch c h w"], numbers: Float[Tensor, "batch 13"]
    ) -> Float[Tensor, "batch c h w"]:
        signed = 2 * numbers - 1
        angle, shear = signed[:, 0] * _ROTATION, signed[:, 1] * _SHEAR
        scale_y, scale_x = 1 + signed[:, 2] * _SCALE, 1 + signed[:, 3] * _SCALE
        cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        warp = torch.stack(
            [
                torch.stack([cosine * scale_x, (shear - sine) * scale_y, zero], dim=1),
                torch.stack([sine * scale_x, cosine * scale_y, zero], dim=1),
            ],
            dim=1,
        )
        grid = F.affine_grid(warp, list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        if images.shape[1] == 3:
            luma = (images * images.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
            images = luma + (images - luma) * (1 + signed[:, 4] * _SATURATION)[:, None, None, None]
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        contrast = (1 + signed[:, 5] * _CONTRAST)[:, None, None, None]
        images = middle + (images - middle) * contrast + (signed[:, 6] * _BRIGHTNESS)[:, None, None, None]
        # The warp left channels-last memory.
        return self._cut_out(images, numbers[:, 7:9]).contiguous(memory_format=torch.channels_last)

    def _cut_out(
        self, images: Float[Tensor, "batch c h w"], centres: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch c h w"]:
        """Sets a square of a quarter of the side to the collection's mean, which is zero after normalisation."""
        size = images.shape[-1]
        half = max(1, size // 8)
        across = torch.arange(size, device=images.device)
        inside = (across[None, None, :] - (centres * size)[:, :, None]).abs() <= half
        patch = inside[:, 0, :, None] & inside[:, 1, None, :]
        return images.masked_fill(patch[:, None], 0.0)


def _reflected(coordinates: Int[np.ndarray, "n size"], size: int) -> Int[np.ndarray, "n size"]:
    coordinates = np.abs(coordinates)
    return np.where(coordinates >= size, 2 * (size - 1) - coordinates, coordinates)
