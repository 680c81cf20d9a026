"""Reference vectors of the image-to-3D network's data: crop windows, targets, and whole samples of both readers."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from common.images import heatmap
from common.images.crop import crop_image
from common.images.loader import epoch_rows
from common.images.people import (
    STD,
    Augmentation,
    CropOptions,
    Crops,
    People,
    bgr_input,
    draw_augmentation,
    make_sample,
)
from common.images.readers import MARGIN, PERSON_HEIGHT, h36m_people, window_center
from common.skeleton import MPII_16
from tests.golden.rule import EXACT, Golden, Tolerance

DATA_INPUTS = ("image_bgr", "mpii_joints", "mpii_center", "mpii_scale", "h36m_joints_3d*", "h36m_box")
OPS_INPUTS = ("affine_cases", "affine_pts", "crop_img", "gauss_centers", "flip_in", "aspect_cases", "reg_xy")
MAP = Tolerance(absolute=1e-6)
AFFINE = Tolerance(absolute=1e-9, relative=1e-12)
GREY = Tolerance(absolute=1)
GREY_NORMALISED = Tolerance(absolute=1 / 256 / min(STD) + 1e-6)  # one level
TARGETS_3D = {"reg_target": MAP, "reg_ind": EXACT, "reg_mask": EXACT, "gt_3d": Tolerance(absolute=1e-4)}


# ------------------------------------------------------------ hg3d_ops: windows, maps, indices


def check_ops(golden: Golden) -> None:
    """The arrays of hg3d_ops.npz that are about crops and targets."""
    arrays = golden.arrays
    _check_affine(golden)
    window = heatmap.crop_affine(np.array((38.0, 33.0)), 70, 25, (32, 32), inverse=True)
    crop = crop_image(Image.fromarray(arrays["crop_img"]), window, (32, 32))
    golden.check("crop_out", crop, GREY)
    golden.check("crop_norm", _normalise_as_stored(crop), GREY_NORMALISED)
    _check_gaussians(golden)
    golden.check("flip_out", heatmap.mirror_maps(golden["flip_in"], "mpii16"), EXACT)
    fitted = [heatmap.fit_aspect(*case[:3], bool(case[3])) for case in arrays["aspect_cases"].tolist()]
    golden.check("aspect_out", np.array(fitted), Tolerance(absolute=1e-9))
    golden.check("reg_ind", heatmap.depth_index(arrays["reg_xy"], (64, 64)), EXACT)


def _check_affine(golden: Golden) -> None:
    cases, points = golden.arrays["affine_cases"], golden.arrays["affine_pts"]
    for suffix, inverse in (("fwd", False), ("inv", True)):
        sizes = [(int(height), int(width)) for width, height in cases[:, 5:]]
        found = np.stack(
            [
                heatmap.crop_affine(case[:2], case[2], case[4], size, inverse=inverse)
                for case, size in zip(cases, sizes, strict=True)
            ]
        )
        golden.check(f"affine_{suffix}", found, AFFINE)
        golden.check(f"affine_pts_{suffix}", heatmap.transform_points(points, found), AFFINE)
    shifted = heatmap.crop_affine(np.array((128.0, 128.0)), 200, 20, (64, 64), shift=(0.1, -0.2))
    golden.check("affine_shift", shifted, AFFINE)
    decoded = golden.arrays["preds_true_division"][0]
    golden.check("transform_preds", heatmap.to_image(decoded, np.array((310.5, 95.25)), 415.7, (64, 64)), AFFINE)


def _check_gaussians(golden: Golden) -> None:
    def draw(points, sigma: float = 2.0, size: tuple[int, int] = (64, 64)) -> torch.Tensor:
        points = torch.as_tensor(points)
        return heatmap.draw_heatmaps(points, torch.ones(points.shape[:-1], dtype=torch.bool), size, sigma)

    maps = draw(golden["gauss_centers"])
    golden.check("gauss_maps", maps, MAP)
    golden.check("gauss_maps_sum", maps.double().sum((1, 2)), Tolerance(absolute=1e-4))
    golden.check("gauss_maps_max", maps.amax((1, 2)), MAP)
    golden.check("gauss_two_peaks", draw(((30, 30), (33, 31))).amax(0), MAP)
    golden.check("gauss_sigma1", draw((20, 42), sigma=1.0), MAP)
    golden.check("gauss_rect", draw((46, 62), size=(64, 48)), MAP)


def _normalise_as_stored(crop: torch.Tensor) -> torch.Tensor:
    """The stored crop is blue, green, red already: to red, green, blue for `bgr_input`, which turns it back."""
    return bgr_input(crop.flip(-1).unsqueeze(0))[0]


# ------------------------------------------------------------ hg3d_data: whole samples


def check_data(golden: Golden) -> None:
    """Every array of hg3d_data.npz."""
    mpii, h36m = _mpii(golden), _h36m(golden)
    for i in range(2):
        _check_sample(golden, f"mpii_val{i}", mpii, i)
        _check_sample(golden, f"h36m_val{i}", h36m, i)
    for seed in range(4):
        _check_sample(golden, f"mpii_train0_seed{seed}", mpii, 0, seed)
        _check_sample(golden, f"h36m_train1_seed{seed}", h36m, 1, seed)
    _check_sample(golden, "fusion_2d_seed0", mpii, 0, seed=0)
    fused = Crops([h36m, mpii], CropOptions(), train=True)
    lengths = [len(epoch_rows(fused, 1.0, 0, 0)), len(fused.rows(with_3d=False)), len(fused.rows(with_3d=True))]
    golden.check("fusion_len", lengths, EXACT)


def _open(golden: Golden):
    image = Image.fromarray(np.ascontiguousarray(golden.arrays["image_bgr"][..., ::-1]))
    return lambda index: image


def _mpii(golden: Golden) -> People:
    joints, scale = golden.arrays["mpii_joints"], golden.arrays["mpii_scale"]
    return People(
        name="MPII",
        layout="mpii16",
        joints=joints,
        annotated=(joints > 0).any(-1),
        center=window_center(golden.arrays["mpii_center"].astype(np.float32), scale),
        size=MARGIN * PERSON_HEIGHT * scale,
        open_image=_open(golden),
    )


def _h36m(golden: Golden) -> People:
    joints, relative = (golden.arrays[f"h36m_joints_3d{suffix}"][:, :17] for suffix in ("", "_relative"))
    return h36m_people("Human3.6M", joints, relative, golden.arrays["h36m_box"], _open(golden))


def _check_sample(golden: Golden, tag: str, people: People, row: int, seed: int | None = None) -> None:
    options, augmentation = CropOptions(), Augmentation()
    if seed is not None:
        augmentation = draw_augmentation(np.random.RandomState(seed), options, people.rotate)
    sample = make_sample(people, row, options, augmentation)
    missing = np.flatnonzero(~people.annotated[row])
    if augmentation.mirror:
        # Fixed here: published, the mark (0, 0) of a missing joint is mirrored to (W - 1, 0), which counts as annotated
        # and gets a peak. Ours leaves the map empty; beyond that the published samples are met exactly.
        swapped = np.array(MPII_16.mirror)[missing]
        assert not sample["annotated"][swapped].any() and not sample["pts_crop"][swapped].any()
        as_published = replace(people, annotated=np.ones_like(people.annotated))
        sample = make_sample(as_published, row, options, augmentation)
    elif tag.startswith("fusion"):
        # Fixed here: published, a missing joint is visible at pixel (0, 0).
        assert not sample["reg_target"][missing].any() and not sample["reg_ind"][missing].any()
        sample["reg_target"][missing] = 1
        sample["reg_ind"][missing] = torch.from_numpy(missing)

    image = bgr_input(sample["image"].unsqueeze(0))[0]
    golden.check(f"{tag}_input", image[:, ::8, ::8], GREY_NORMALISED)
    golden.check(f"{tag}_input_mean", image.double().mean(), Tolerance(absolute=2e-3))
    maps = heatmap.draw_heatmaps(sample["pts_crop"], sample["drawn"], options.map_size)
    golden.check(f"{tag}_target", maps[:, ::2, ::2], MAP)
    golden.check(f"{tag}_target_sum", maps.double().sum((1, 2)), Tolerance(absolute=1e-4))
    golden.check(f"{tag}_pts_crop", sample["pts_crop"], EXACT)
    golden.check(f"{tag}_center", sample["center"].float(), Tolerance(absolute=1e-5))
    golden.check(f"{tag}_scale", sample["scale"], Tolerance(absolute=1e-9))
    for name, tolerance in TARGETS_3D.items() if f"{tag}_reg_ind" in golden.arrays else ():
        golden.check(f"{tag}_{name}", sample[name], tolerance)
