"""Samples of people in images: windows, augmentation, targets of 2D and 3D people, normalisation."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import InputError
from common.images import heatmap
from common.images.people import (
    MEAN,
    STD,
    Augmentation,
    CropOptions,
    Crops,
    People,
    bgr_input,
    draw_augmentation,
    make_sample,
    select,
)

OPTIONS = CropOptions(input_size=(64, 64), map_size=(16, 16))
WIDTH, HEIGHT = 120, 100


@cache
def picture(index: int) -> Image.Image:
    """Smooth colours, another for each index."""
    noise = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def people(count: int = 3, **changes) -> People:
    """3D people whose joints lie inside of the picture."""
    rng = np.random.default_rng(5)
    made = People(
        name="made",
        layout="mpii16",
        joints=rng.uniform(30, 80, (count, 16, 2)),
        annotated=np.ones((count, 16), bool),
        center=np.full((count, 2), 55, np.float32),
        size=np.full(count, 80.0),
        open_image=picture,
        rotate=False,
        depth=rng.normal(0, 20, (count, 16)),
        gt_3d=rng.normal(0, 300, (count, 17, 3)).astype(np.float32),
    )
    return replace(made, **changes)


def without_3d(found: People) -> People:
    """The same people, known in 2D only."""
    return replace(found, depth=None, gt_3d=None)


def test_joints_and_pixels_move_together():
    """A white dot at a joint comes to lie where the joint's heat map has its peak, whatever is drawn."""
    joints = people(1).joints.round()
    for j in (0, 3, 9, 12):
        canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        x, y = joints[0, j].astype(int)
        canvas[y - 1 : y + 2, x - 1 : x + 2] = 255
        one = without_3d(people(1, joints=joints, open_image=lambda index, canvas=canvas: Image.fromarray(canvas)))
        for augmentation in (Augmentation(), Augmentation(0.9, 25.0), Augmentation(1.1, -40.0, True)):
            sample = make_sample(one, 0, OPTIONS, augmentation)
            bright = sample["image"].float().sum(-1)
            rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
            spot = torch.stack(((columns * bright).sum(), (rows * bright).sum())) / bright.sum() / 4
            k = heatmap.layout("mpii16").mirror[j] if augmentation.mirror else j
            assert ((spot - 0.5) - sample["pts_crop"][k]).abs().max() < 0.75, (j, augmentation)


def test_3d_targets():
    one = people(1)
    sample = make_sample(one, 0, OPTIONS, Augmentation())
    assert sample["scale"].tolist() == [80, 80] and sample["reg_mask"].all() and sample["annotated"].all()
    np.testing.assert_allclose(sample["reg_target"][:, 0], one.depth[0] / 80, rtol=1e-6)
    np.testing.assert_array_equal(sample["gt_3d"], one.gt_3d[0])
    depth = torch.rand(16, 16, 16)
    found = depth.permute(1, 2, 0).flatten()[sample["reg_ind"]]
    assert torch.equal(found, torch.stack([depth[j, y, x] for j, (x, y) in enumerate(sample["pts_crop"].tolist())]))


def test_3d_joints_outside_of_the_map_have_no_target():
    joints = people(1).joints
    joints[0, 4] = 118, 50
    sample = make_sample(people(1, joints=joints), 0, OPTIONS, Augmentation())
    for name in ("drawn", "reg_mask", "reg_target", "reg_ind", "pts_crop"):
        assert not sample[name][4].any(), name
    assert sample["reg_mask"].sum() == 15
    maps = heatmap.draw_heatmaps(sample["pts_crop"], sample["drawn"], (16, 16))
    assert not maps[4].any() and sample["annotated"].all()  # as published, a peak there is a mistake


def test_unannotated_joints_enter_nothing_mirrored_or_not():
    joints, annotated = people(1).joints, np.ones((1, 16), bool)
    joints[0, (4, 9)], annotated[0, (4, 9)] = ((0, 0), (np.nan, np.nan)), False
    one = without_3d(people(1, joints=joints, annotated=annotated))
    for mirror, missing in ((False, (4, 9)), (True, (1, 9))):
        sample = make_sample(one, 0, OPTIONS, Augmentation(mirror=mirror))
        assert torch.nonzero(~sample["annotated"]).flatten().tolist() == sorted(missing)
        maps = heatmap.draw_heatmaps(sample["pts_crop"], sample["annotated"], (16, 16))
        for j in missing:
            assert not maps[j].any() and not sample["reg_target"][j] and not sample["reg_ind"][j]
        assert sample["reg_target"].sum() == 14 and not sample["reg_mask"].any()


def test_mirrored_depth_and_pose():
    one = people(1)
    plain, mirrored = (make_sample(one, 0, OPTIONS, Augmentation(mirror=m)) for m in (False, True))
    swap = list(heatmap.layout("mpii16").mirror)
    np.testing.assert_allclose(mirrored["reg_target"], plain["reg_target"][swap])
    np.testing.assert_array_equal(mirrored["gt_3d"][4], one.gt_3d[0, 1] * (-1, 1, 1))


def test_the_window_is_no_larger_than_the_image():
    sample = make_sample(people(1, size=np.array([1000.0])), 0, OPTIONS, Augmentation(1.25))
    assert sample["scale"].tolist() == [WIDTH, WIDTH]


def test_upright_input():
    options = CropOptions(input_size=(64, 48), map_size=(16, 12))
    for short, expected in ((False, [80, 80 / 0.75]), (True, [60, 80])):
        sample = make_sample(people(1), 0, replace(options, fit_short_side=short), Augmentation())
        assert sample["image"].shape == (64, 48, 3)
        np.testing.assert_allclose(sample["scale"], expected)


def test_the_drawn_distribution():
    rng = np.random.default_rng(0)
    drawn = [draw_augmentation(rng, CropOptions(), rotate=True) for _ in range(4000)]
    factors, rotations, mirrors = (np.array(values) for values in zip(*drawn, strict=True))
    assert factors.min() == 0.75 and factors.max() == 1.25 and abs(factors.mean() - 1) < 0.02
    assert abs((rotations != 0).mean() - 0.6) < 0.03 and np.abs(rotations).max() == 60
    assert abs(mirrors.mean() - 0.5) < 0.03
    assert not any(draw_augmentation(rng, CropOptions(), rotate=False).rotation for _ in range(50))


def test_items_depend_on_seed_epoch_and_row_alone():
    crops, again = (Crops([people(3), without_3d(people(2))], OPTIONS, train=True, seed=4) for _ in range(2))
    first = crops[1, 3]
    crops[0, 0], crops[1, 1]
    for name, value in again[1, 3].items():
        assert torch.equal(value, first[name]), name
    assert first["index"] == 3
    others = (crops[2, 3], crops[1, 4], Crops(crops.sets, OPTIONS, train=True, seed=5)[1, 3])
    assert all(not torch.equal(other["image"], first["image"]) for other in others)
    plain = Crops(crops.sets, OPTIONS, train=False)
    assert torch.equal(plain[3, 3]["image"], plain[3]["image"])


def test_selection():
    chosen = select(people(3), slice(None, None, 2))
    assert len(chosen) == 2 and chosen.open_image(1) is picture(2)
    np.testing.assert_array_equal(chosen.gt_3d[1], people(3).gt_3d[2])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("joints", np.zeros((3, 15, 2)), r"joints has shape \(3, 15, 2\)"),
        ("joints", np.full((3, 16, 2), np.nan), "joints of person 0 is .*nan"),
        ("size", np.array([50.0, 0.0, 1.0]), "size of person 1 is 0.0"),
        ("center", np.full((3, 2), np.inf), "center of person 0"),
        ("depth", np.full((3, 16), np.nan), "depth of person 0"),
        ("depth", None, "depth without gt_3d"),
    ],
)
def test_bad_people_are_refused(field, value, words):
    with pytest.raises(InputError, match=words):
        people(3, **{field: value})


def test_sets_of_two_layouts_are_refused():
    coco = People("c", "coco17", np.ones((1, 17, 2)), np.ones((1, 17), bool), np.ones((1, 2)), np.ones(1), picture)
    with pytest.raises(InputError, match="coco17, mpii16"):
        Crops([people(), coco], OPTIONS, train=True)


def test_normalise_as_published():
    image = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8)
    found = bgr_input(image)
    blue_first = image.numpy()[..., ::-1].astype(np.float64) / 256
    np.testing.assert_allclose(found.numpy(), ((blue_first - MEAN) / STD).transpose(0, 3, 1, 2), atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last) and found.dtype == torch.float32
    np.testing.assert_allclose(bgr_input(image, 255.0, standardise=False)[:, 2], image[..., 0] / 255, atol=1e-6)
