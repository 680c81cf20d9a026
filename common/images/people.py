"""Images of people -> training samples: crop, augmentation, heat-map and depth targets.

Every reader (those of `common.images.readers`, the synthetic renderer) gives a `People`: arrays over N people and a
function that opens the image of one. `Crops` turns them into samples for torch's DataLoader (`common.images.loader`).
A sample is a dict of tensors; J joints, H x W network input, h x w heat maps:

    image       (H, W, 3) uint8, RGB: a quarter of the bytes of floats on the way to the device; `bgr_input` there
    pts_crop    (J, 2) int32, (x, y) heat-map pixels, truncated toward 0 as published; of 2D people it may lie outside
                of the map; 0 where not annotated
    annotated   (J,) bool, whether the joint has a peak: `heatmap.draw_heatmaps(pts_crop, annotated, (h, w))` on the
                device; of 3D people those inside of the map only
    reg_target  (J, 1) float32, depth / window width; of 2D people 1 where annotated and inside ("visible"), else 0
    reg_ind     (J,) int64, the joint's place in depth maps laid out flat as (h, w, J); 0 where not annotated and inside
    reg_mask    (J,) uint8, 1 where `reg_target` is a depth
    gt_3d       (17, 3) float32, millimetres, root-relative, camera frame, Human3.6M order; zeros for 2D people
    center      (2,) float64, image pixels; `scale` (2,) float64, width and height of the crop window
    index       () int64, row of the person, counted through all sets

Source: Zhou et al., ICCV 2017, and its published code. Two bugs of that are fixed: joints without annotation counted as
visible at pixel (0, 0) in the bone-length loss, and got a peak in mirrored images. Here they enter no loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from common.errors import InputError
from common.images import heatmap
from common.images.crop import crop_image, shrink_on_decode
from common.images.heatmap import Size
from common.skeleton import layout

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green, blue
ROTATED_SHARE, MAX_ROTATION = 0.6, 2.0  # of the samples; in standard deviations
_ROWS_3D, _AXES = 17, 3


@dataclass(frozen=True)
class People:
    """N people in images. Joints are in the order of `layout`; a window is square until fitted to the input's aspect.

    `open_image(i)` gives the i-th person's image, RGB; it runs in the DataLoader's workers and must be deterministic.
    """

    name: str
    layout: str  # of `skeleton.LAYOUTS`
    joints: np.ndarray  # (N, J, 2), image pixels, x right, y down, pixel centres at integers
    annotated: np.ndarray  # (N, J) bool: the place is known (hidden joints too)
    center: np.ndarray  # (N, 2) float32, image pixels, middle of the window
    size: np.ndarray  # (N,) float64, image pixels, side of the window
    open_image: Callable[[int], Image.Image]
    rotate: bool = True  # whether augmentation may
    depth: np.ndarray | None = (
        None  # (N, J), relative to the root, in image pixels (weak perspective); positive: farther
    )
    gt_3d: np.ndarray | None = None  # (N, 17, 3) float32, millimetres

    def __post_init__(self) -> None:
        people, joints = len(self.joints), layout(self.layout).num_joints
        shapes = {
            "joints": (people, joints, 2),
            "annotated": (people, joints),
            "center": (people, 2),
            "size": (people,),
            "depth": (people, joints),
            "gt_3d": (people, _ROWS_3D, _AXES),
        }
        for field, shape in shapes.items():
            array = getattr(self, field)
            if array is not None:
                self._check(field, array, shape)
        if (self.depth is None) != (self.gt_3d is None):
            raise InputError(f"{self.name}: depth without gt_3d or the other way round; give both or neither")

    def _check(self, field: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
        if array.shape != shape:
            raise InputError(f"{self.name}: {field} has shape {array.shape}; expected {shape} ({self.layout})")
        good = np.isfinite(array).reshape(len(array), -1)
        if field in ("joints", "depth"):  # what is not annotated is not read
            good = np.isfinite(array).reshape(*self.annotated.shape, -1).all(-1) | ~self.annotated
        if field == "size":
            good = good & (array > 0)[:, None]
        if not good.all():
            row = int((~good.all(1)).argmax())
            raise InputError(f"{self.name}: {field} of person {row} is {array[row].tolist()}; expected finite numbers")

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def has_3d(self) -> bool:
        """Whether depths and poses are known."""
        return self.gt_3d is not None


def select(people: People, rows: np.ndarray | slice) -> People:
    """Some of the people, by index."""
    rows = np.arange(len(people))[rows]
    arrays = {name: getattr(people, name) for name in ("joints", "annotated", "center", "size", "depth", "gt_3d")}
    kept = {name: None if array is None else array[rows] for name, array in arrays.items()}
    return replace(people, **kept, open_image=_Selected(people.open_image, rows))


@dataclass(frozen=True)
class _Selected:
    """`open_image` of a selection; an object and not a closure, so that a worker can be sent it."""

    open_image: Callable[[int], Image.Image]
    rows: np.ndarray

    def __call__(self, index: int) -> Image.Image:
        return self.open_image(int(self.rows[index]))


# ------------------------------------------------------------ augmentation


@dataclass(frozen=True)
class CropOptions:
    """Sizes and augmentation, published defaults (COCO: input (256, 192), map (64, 48), scale 0.3, rotate 40)."""

    input_size: Size = (256, 256)  # height, width
    map_size: Size = (64, 64)
    scale: float = 0.25  # standard deviation of the window's factor, which is clipped to 1 +- scale
    rotate: float = 30.0  # degrees, standard deviation
    flip: float = 0.5  # probability
    fit_short_side: bool = False
    fast_decode: bool = False  # `crop.shrink_on_decode`: quicker, but other pixels than published


class Augmentation(NamedTuple):
    """What was drawn for one sample."""

    factor: float = 1.0  # of the window
    rotation: float = 0.0  # degrees
    mirror: bool = False


def draw_augmentation(random: np.random.Generator, options: CropOptions, rotate: bool) -> Augmentation:
    """The published distribution, drawn in the published order. Takes NumPy's legacy `RandomState` too."""
    factor = np.clip(1 + options.scale * random.standard_normal(), 1 - options.scale, 1 + options.scale)
    rotation = 0.0
    if rotate and random.random() <= ROTATED_SHARE:
        limit = MAX_ROTATION * options.rotate
        rotation = float(np.clip(options.rotate * random.standard_normal(), -limit, limit))
    return Augmentation(float(factor), rotation, bool(random.random() < options.flip))


# ------------------------------------------------------------ samples


def make_sample(people: People, row: int, options: CropOptions, augmentation: Augmentation) -> dict[str, Tensor]:
    """One person's sample, without `index`; see the top of this module."""
    image = people.open_image(row)
    width, height = image.size
    center, joints, annotated = people.center[row], people.joints[row], people.annotated[row]
    if augmentation.mirror:
        mirror = list(layout(people.layout).mirror)
        annotated = annotated[mirror]  # decided before mirroring, which moves the mark of a missing joint, (0, 0)
        joints = heatmap.mirror_joints(joints, width, people.layout)
        center = np.array((width - 1 - center[0], center[1]), center.dtype)
    side = min(
        float(people.size[row]) * augmentation.factor, max(height, width)
    )  # no larger than the image, as published
    input_height, input_width = options.input_size
    scale = heatmap.fit_aspect(side, side, input_width / input_height, options.fit_short_side)

    def window(size: Size, inverse: bool) -> np.ndarray:
        return heatmap.crop_affine(center, scale[0], augmentation.rotation, size, inverse=inverse)

    points = heatmap.transform_points(np.where(annotated[:, None], joints, 0), window(options.map_size, False))
    sampling = window(options.input_size, True)
    if augmentation.mirror:
        sampling = heatmap.mirror_x(sampling, width)
    if options.fast_decode:
        sampling = shrink_on_decode(image, sampling)
    points = points.astype(np.int32)
    drawn = annotated
    if people.has_3d:  # as published: outside of the map there is neither peak nor depth, in 2D sets half a peak
        drawn = annotated & heatmap.inside(points, options.map_size)
    sample = targets_2d(points, drawn, options.map_size) | {"annotated": annotated}
    if people.has_3d:
        sample |= _targets_3d(people, row, drawn, scale[0], augmentation.mirror)
    sample |= {"center": np.asarray(center, float), "scale": np.array(scale)}
    return {"image": crop_image(image, sampling, options.input_size)} | {
        name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in sample.items()
    }


def targets_2d(points: np.ndarray, drawn: np.ndarray, size: Size) -> dict[str, np.ndarray]:
    """Targets of a person known in 2D, from integer map pixels (J, 2), and which joints have a peak (J,)."""
    seen = drawn & heatmap.inside(points, size)
    return {
        "pts_crop": np.where(drawn[:, None], points, 0),
        "drawn": drawn,
        "reg_target": seen.astype(np.float32)[:, None],
        "reg_ind": np.where(seen, heatmap.depth_index(points, size), 0),
        "reg_mask": np.zeros(len(points), np.uint8),
        "gt_3d": np.zeros((_ROWS_3D, _AXES), np.float32),
    }


def _targets_3d(people: People, row: int, seen: np.ndarray, window_width: float, mirror: bool) -> dict[str, np.ndarray]:
    """What a person known in 3D has beside: depths of the joints seen (J,), and the pose to score against."""
    depth, gt_3d = people.depth[row], people.gt_3d[row]
    if mirror:
        depth, gt_3d = depth[list(layout(people.layout).mirror)], _mirror_3d(gt_3d)
    return {
        "reg_target": (np.where(seen, depth, 0) / window_width).astype(np.float32)[:, None],
        "reg_mask": seen.astype(np.uint8),
        "gt_3d": gt_3d.astype(np.float32),
    }


def _mirror_3d(pose: np.ndarray) -> np.ndarray:
    """A pose (17, 3) in camera frame, seen in a mirrored image."""
    return pose[list(layout("h36m17").mirror)] * (-1, 1, 1)


class Crops(Dataset):
    """Samples of one or several sets of people, one after the other.

    An item is asked for by (epoch, row): what is drawn for it depends on (seed, epoch, row) alone, whatever worker or
    process makes it, and however often a run was resumed. A bare row means epoch 0. Without `train` nothing is drawn.
    """

    def __init__(self, sets: Sequence[People], options: CropOptions, train: bool, seed: int = 0):
        joints = {people.layout for people in sets}
        if len(joints) != 1 or not sum(map(len, sets)):
            raise InputError(f"found sets of {', '.join(sorted(joints)) or 'nobody'}; expected people of one layout")
        self.sets, self.options, self.train, self.seed = tuple(sets), options, train, seed
        self.starts = np.cumsum([0, *map(len, sets)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Tensor]:
        epoch, row = key if isinstance(key, tuple) else (0, key)
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        people, augmentation = self.sets[part], Augmentation()
        if self.train:
            random = np.random.default_rng((self.seed, epoch, row))
            augmentation = draw_augmentation(random, self.options, people.rotate)
        sample = make_sample(people, row - int(self.starts[part]), self.options, augmentation)
        return sample | {"index": torch.tensor(row)}

    def rows(self, with_3d: bool) -> np.ndarray:
        """The rows of people with, or without, 3D."""
        spans = zip(self.starts[:-1], self.starts[1:], self.sets, strict=True)
        parts = [np.arange(start, end) for start, end, people in spans if people.has_3d == with_3d]
        return np.concatenate(parts) if parts else np.empty(0, int)


# ------------------------------------------------------------ on the device


def bgr_input(image: Tensor, divisor: float = 256.0, standardise: bool = True) -> Tensor:
    """(B, H, W, 3) uint8, RGB -> network input (B, 3, H, W) float32, in channels-last memory.

    As published: blue, green, red in this order, but ImageNet's statistics of red, green, blue (training, test and
    demo agree). The published demo divides by 255. The 2017 branch's hourglass does not `standardise`.
    """
    channels = image.permute(0, 3, 1, 2).flip(1).to(torch.float32)
    if not standardise:
        return channels / divisor
    gain, bias = _gain_and_bias(image.device, divisor)
    return torch.addcmul(bias, channels, gain)


@cache  # made once: a copy from the host in every step would wait for the device
def _gain_and_bias(device: torch.device, divisor: float) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    return 1 / (divisor * std), -mean / std
