"""Windows cut out of images: JPEG and the like -> uint8 tensor, bilinear, black outside of the image.

As OpenCV's warpAffine with bilinear sampling and a constant border, without OpenCV. torch's grid_sample takes less
than half the time of Pillow's transform (benchmarks/image_pipeline.py), and only the part of the image that the window
covers is converted.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from common.errors import InputError
from common.files.reading import open_image
from common.images.heatmap import Size

_ORIENTATION = 0x0112  # EXIF tag


def open_rgb(path: str | Path) -> Image.Image:
    """An image as RGB and upright; a JPEG without EXIF rotation is decoded only when its pixels are first asked for.

    Raises:
        InputError: missing, truncated or other file.
    """
    try:
        image = open_image(path)
        if image.getexif().get(_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return image if image.mode == "RGB" else image.convert("RGB")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist (looked for {Path(path).absolute()})") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image: fetch it again") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _damaged(path, error) from error


def shrink_on_decode(image: Image.Image, affine: np.ndarray) -> np.ndarray:
    """Have a JPEG that is not decoded yet decode to a half, quarter or eighth where the crop is coarser than that.

    Faster and free of aliasing, but not the published pixels: those skip rows and columns of the full image. `affine`
    (2, 3) goes from crop to image; the one that goes to the smaller image comes back.
    """
    step = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
    if step < 2 or image.format != "JPEG":
        return affine
    full = image.width
    image.draft("RGB", (int(full / step), int(image.height / step)))
    factor = 2.0 ** np.round(np.log2(full / image.width))
    smaller = affine / factor
    smaller[:, 2] += 0.5 / factor - 0.5  # pixel centres are at integers in both
    return smaller


def crop_image(image: Image.Image, affine: np.ndarray, size: Size) -> Tensor:
    """The pixels of an RGB image under a window: (H, W, 3) uint8, rounded to nearest.

    Args:
        affine: (2, 3), from crop pixels to image pixels (`heatmap.crop_affine` with `inverse`).
        size: height and width of the crop.

    Raises:
        InputError: the image is truncated or damaged; it is named.
    """
    height, width = size
    columns = affine[:, :1] * np.arange(width)  # (2, W): what x and y of a sample owe to its column
    rows = affine[:, 1:2] * np.arange(height) + affine[:, 2:]
    low = np.floor(columns.min(1) + rows.min(1)).astype(int) - 1
    high = np.ceil(columns.max(1) + rows.max(1)).astype(int) + 2
    low, high = np.maximum(low, 0), np.minimum(high, image.size)
    if (low >= high).any():
        return torch.zeros(height, width, 3, dtype=torch.uint8)
    try:
        region = image.crop((*low.tolist(), *high.tolist()))
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(getattr(image, "filename", "") or "an image", error) from error
    scale = 2.0 / (high - low)[:, None]  # to grid_sample's -1 ... 1, of the region's edges
    columns = torch.from_numpy((columns * scale).astype(np.float32))
    rows = torch.from_numpy(((rows - low[:, None] + 0.5) * scale - 1).astype(np.float32))
    grid = torch.empty(1, height, width, 2)
    for axis in range(2):
        torch.add(rows[axis].unsqueeze(1), columns[axis].unsqueeze(0), out=grid[0, :, :, axis])
    pixels = torch.frombuffer(bytearray(region.tobytes()), dtype=torch.uint8).view(1, region.height, region.width, 3)
    sampled = functional.grid_sample(pixels.permute(0, 3, 1, 2).float(), grid, align_corners=False)
    planes = sampled[0].round_().to(torch.uint8).numpy()
    crop = np.empty((height, width, 3), np.uint8)
    for channel in range(3):  # NumPy interleaves bytes in half the time of torch's copy
        crop[..., channel] = planes[channel]
    return torch.from_numpy(crop)


def _damaged(path: str | Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:160]
    return InputError(f"{path} is truncated or damaged ({reason}): fetch it again, or take its entry out")
