"""Decoding, flip average, joint orders, and scores of image-to-3D networks."""

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.files import mat
from common.images import decode as hd
from common.images import pckh
from common.images import scores as hm
from common.skeleton import MPII_16
from tests.golden import heatmap_2017


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def peaks(centres: torch.Tensor, height: int = 64, width: int = 64, sigma: float = 2.0) -> torch.Tensor:
    """Gaussians exactly at (..., 2)."""
    x, y = torch.arange(width) - centres[..., :1], torch.arange(height) - centres[..., 1:]
    return torch.exp(-(x.square().unsqueeze(-2) + y.square().unsqueeze(-1)) / (2 * sigma**2))


# ------------------------------------------------------------ decoding


def test_published_rows_are_fractional():
    maps = torch.zeros(1, 2, 6, 8)
    maps[0, 0, 3, 6] = maps[0, 1, 2, 0] = 2.0
    pixels, height = hd.decode(maps)
    assert pixels.tolist() == [[[6, 3 + 6 / 8], [0, 2]]] and height.tolist() == [[2, 2]]
    assert hd.decode(maps, "integer")[0].tolist() == [[[6, 3], [0, 2]]]
    assert hd.decode(torch.zeros(3, 4, 4))[0].eq(0).all()  # of equal values the first


@pytest.mark.parametrize(("refine", "worst"), [("integer", 0.5), ("quarter", 0.26), ("taylor", 0.01)])
def test_sub_pixel_decoding_gains(refine, worst):
    centres = 10 + 40 * torch.rand(50, 16, 2, generator=torch.Generator().manual_seed(0))
    found, _ = hd.decode(peaks(centres), refine)
    error = (found - centres).abs().max().item()
    assert error < worst and (refine != "integer" or error > 0.4)


def test_taylor_bears_noise_and_borders():
    centres = 10 + 40 * torch.rand(50, 16, 2, generator=torch.Generator().manual_seed(0))
    maps = peaks(centres) + 0.02 * seeded(50, 16, 64, 64)
    errors = {name: (hd.decode(maps, name)[0] - centres).norm(dim=-1).mean() for name in ("integer", "taylor")}
    assert errors["taylor"] < 0.6 * errors["integer"]
    at_border = peaks(torch.tensor([[0.2, 30.0], [63.0, 63.0]]))
    assert hd.decode(at_border, "taylor")[0].tolist() == [[0, 30], [63, 63]]
    for odd in (torch.zeros(2, 9, 9), -torch.ones(2, 9, 9), 1e-6 * seeded(2, 9, 9)):
        assert hd.decode(odd, "taylor")[0].isfinite().all()


def test_unknown_refinement():
    with pytest.raises(InputError, match="expected one of published, integer, quarter, taylor"):
        hd.decode(torch.zeros(1, 4, 4), "best")


def test_pose_of_rectangular_maps_depth_maps_and_regressed_depths():
    maps, depth = seeded(2, 16, 64, 48), seeded(2, 16, 64, 48, seed=1)
    pose = hd.decode_3d(maps, depth)
    index = maps.flatten(2).argmax(-1)
    absolute = torch.stack(
        (index % 48 / 64, index // 48 / 64, depth.flatten(2).gather(2, index[..., None])[..., 0]), -1
    )
    torch.testing.assert_close(pose, absolute - absolute[:, 6:7])
    torch.testing.assert_close(hd.decode_3d(maps, absolute[..., 2]), pose)
    one = hd.decode_3d(maps, depth[:, :1])  # the last channel for the joints that have none of their own
    torch.testing.assert_close(one, hd.decode_3d(maps, depth[:, :1].expand(-1, 16, -1, -1)))
    with pytest.raises(InputError, match="depths of shape"):
        hd.decode_3d(maps, absolute[:, :3, 2])


def test_sub_pixel_pose_keeps_the_depth_of_the_pixel():
    centres = torch.full((1, 16, 2), 20.3)
    centres[0, 6] = 30.0
    depth = seeded(1, 16, 64, 64)
    pose = hd.decode_3d(peaks(centres), depth, "taylor")
    torch.testing.assert_close(pose[0, 0, :2], torch.full((2,), -9.7 / 64), atol=2e-4, rtol=0)
    assert pose[0, 0, 2] == depth[0, 0, 20, 20] - depth[0, 6, 30, 30]


# ------------------------------------------------------------ mirrored images, joint orders


def test_flip_average_of_a_network_that_mirrors_right_is_the_output_itself():
    output = {"hm": seeded(3, 16, 8, 8), "depth": seeded(3, 16, 8, 8, seed=1), "hm_stacks": ()}
    order = list(MPII_16.mirror)
    mirrored = {name: output[name].flip(-1)[:, order] for name in ("hm", "depth")}
    merged = hd.flip_merge(output, mirrored)
    assert set(merged) == {"hm", "depth"}
    for name, value in merged.items():  # every sample of the batch
        assert torch.equal(value, output[name])
    half = {"hm": output["hm"], "depth": torch.ones(3, 16)}, {"hm": output["hm"], "depth": torch.zeros(3, 16)}
    assert hd.flip_merge(*half)["depth"].eq(0.5).all()
    sides = torch.arange(16.0).expand(3, 16)
    assert torch.equal(hd.flip_merge({"depth": sides}, {"depth": sides[:, order]})["depth"], sides)


def test_joint_orders_go_there_and_back():
    poses = seeded(2, 16, 3)
    there = hd.mpii_to_h36m(poses)
    assert there.shape == (2, 17, 3)
    torch.testing.assert_close(there[:, 7], (poses[:, 6] + poses[:, 8]) / 2)
    torch.testing.assert_close(there[:, 9], (poses[:, 8] + poses[:, 9]) / 2)
    back = there[..., list(hd.H36M_TO_MPII), :]
    kept = [joint for joint in range(16) if joint != 7]
    assert torch.equal(back[:, kept], poses[:, kept])


# ------------------------------------------------------------ scores


def test_accuracy_counts_joints_with_a_target():
    target = peaks(torch.tensor([30.0, 30.0]).expand(4, 16, 2)).clone()
    near, far = torch.tensor([33.0, 30.0]), torch.tensor([34.0, 30.0])
    maps = peaks(near.expand(4, 16, 2)).clone()
    assert hm.accuracy(hm.heatmap_distances(maps, target)) == 1  # 3 of at most 3.2 pixels
    maps[0, 0] = peaks(far)
    assert hm.accuracy(hm.heatmap_distances(maps, target)).item() == pytest.approx(1 - 1 / 40)
    target[:, 0] = 0
    target[1:, 1] = 0
    maps[0, 1] = peaks(far)
    distances = hm.heatmap_distances(maps, target)
    assert distances[:, 0].isnan().all() and hm.accuracy(distances).item() == pytest.approx(8 / 9)
    assert hm.accuracy(hm.heatmap_distances(maps, torch.zeros_like(maps))) == 0


def test_mpjpe_at_the_published_size():
    pose = seeded(3, 16, 3)
    pose = pose - pose[:, 6:7]
    truth = hm.at_published_size(hd.mpii_to_h36m(pose))
    assert hm.hg3d_mpjpe(7 * pose, truth).max() < 1e-2
    first, second = map(list, zip(*hm.H36M_EDGES, strict=True))
    torch.testing.assert_close((truth[:, first] - truth[:, second]).norm(dim=-1).sum(1), torch.full((3,), 4000.0))
    truth[:, 3] += torch.tensor([0.0, 17.0, 0.0])
    truth[1] = 0  # a 2D sample
    errors = hm.hg3d_mpjpe(pose, truth)
    assert errors.isnan().tolist() == [False, True, False]
    assert errors[0].item() == pytest.approx(1, abs=1e-3)


def test_bone_asymmetry():
    pose = seeded(2, 16, 3)
    mirrored = pose.clone()
    left, right = list(MPII_16.left), list(MPII_16.right)
    mirrored[:, left] = mirrored[:, right] * torch.tensor([-1.0, 1, 1])
    mirrored[:, [6, 7, 8, 9], 0] = 0
    assert hm.bone_asymmetry(mirrored).max() < 1e-6 < hm.bone_asymmetry(pose).min()
    mirrored[:, 5] = mirrored[:, 4] + 3 * (mirrored[:, 5] - mirrored[:, 4])  # one of six pairs: 3 against 1
    torch.testing.assert_close(hm.bone_asymmetry(mirrored), torch.full((2,), 1 / 6))


def test_first_code_refines_on_the_transposed_map():
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 3, 5] = 1.0
    assert heatmap_2017.decode_refined(maps).tolist() == [[[5.75, 3.75]]]  # ties go up
    maps[0, 0, 4, 3] = maps[0, 0, 5, 2] = 0.2  # (x - 1, y) and (x, y - 1), were x the row
    assert heatmap_2017.decode_refined(maps).tolist() == [[[5.25, 3.25]]]
    maps[0, 0, 0, 5] = 2.0  # on the border: no refinement
    assert heatmap_2017.decode_refined(maps).tolist() == [[[5.5, 0.5]]]


# ------------------------------------------------------------ PCKh and its files


def truth_file(path, people: int = 5):
    draws = np.random.default_rng(0)
    joints = draws.uniform(0, 500, (16, 2, people))
    missing = np.zeros((16, people))
    missing[9, 0] = 1
    boxes = np.stack((np.zeros((2, people)), np.full((2, people), 100 / 0.6 / 2**0.5)))  # head size 100
    mat.save_mat(path, pos_gt_src=joints, jnt_missing=missing, headboxes_src=boxes)
    return torch.from_numpy(joints).permute(2, 0, 1)


def test_pckh_table(tmp_path):
    joints = truth_file(tmp_path / "truth.mat")
    truth = pckh.read_truth(tmp_path / "truth.mat")
    torch.testing.assert_close(truth.head_size, torch.full((5,), 100.0).double())
    predictions = joints.clone()
    predictions[0, 9] += 1000  # not annotated
    predictions[1, 9, 0] += 51  # head: one of four
    predictions[2, 15, 1] += 49
    predictions[:, 12] += 60  # right shoulder: all
    predictions[:, 6] += 1000  # hip: not in the table
    mat.save_mat(tmp_path / "preds.mat", preds=predictions.numpy())
    found = pckh.scores(pckh.read_predictions(tmp_path / "preds.mat"), truth)
    assert found["head"] == 75 and found["shoulder"] == 50 and found["wrist"] == found["hip"] == 100
    assert found["mean"] == pytest.approx((75 + 0 + 12 * 100) / 14)
    assert "shoulder" in pckh.table(found) and "75.00" in pckh.table(found)
    with pytest.raises(InputError, match="4 predictions for 5 people"):
        pckh.scores(predictions[:4], truth)


def test_pckh_files_that_are_none(tmp_path):
    mat.save_mat(tmp_path / "a.mat", preds=np.zeros((3, 2)), other=1.5)
    with pytest.raises(InputError, match=r"preds is \(3, 2\); expected \(people, 16, 2\)"):
        pckh.read_predictions(tmp_path / "a.mat")
    with pytest.raises(InputError, match="has no pos_gt_src, jnt_missing, headboxes_src; it holds preds, other"):
        pckh.read_truth(tmp_path / "a.mat")


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.int16, np.int64, bool])
def test_mat_files_keep_arrays(tmp_path, dtype):
    arrays = {"x": np.arange(24).reshape(2, 3, 4).astype(dtype), "longer_name": np.ones((1, 1), dtype)}
    mat.save_mat(tmp_path / "a.mat", **arrays)
    found = mat.load_mat(tmp_path / "a.mat")
    for name, value in arrays.items():
        assert np.array_equal(found[name], value) and found[name].shape == value.shape


def test_mat_files_of_matlab_are_read(tmp_path):
    """Compressed, with small elements, big-endian, a cell of texts and a structure, laid out by hand."""
    import struct
    import zlib

    def element(order, code, data):
        return struct.pack(order + "II", code, len(data)) + data + bytes(-len(data) % 8)

    def matrix(order, kind, shape, name, *rest):
        small = struct.pack(order + "I", len(name) << 16 | 1) + name.ljust(4, b"\0")
        flags = element(order, 6, struct.pack(order + "II", kind, 0))
        return element(order, 14, flags + element(order, 5, struct.pack(order + "2i", *shape)) + small + b"".join(rest))

    for order, mark in (("<", b"IM"), (">", b"MI")):
        # numbers are stored in the smallest type that holds them
        numbers = matrix(order, 6, (2, 2), b"a", struct.pack(order + "I", 4 << 16 | 2) + bytes((1, 2, 3, 4)))
        text = matrix(order, 4, (1, 4), b"", element(order, 16, b"rank"))
        cell, record = matrix(order, 1, (1, 1), b"b", text), matrix(order, 2, (1, 1), b"c")
        packed = zlib.compress(numbers)
        body = struct.pack(order + "II", 15, len(packed)) + packed + cell + record
        header = b"MATLAB 5.0".ljust(124) + struct.pack(order + "H", 0x0100) + mark
        (tmp_path / "a.mat").write_bytes(header + body)
        found = mat.load_mat(tmp_path / "a.mat")
        assert set(found) == {"a", "b"} and found["b"] == ["rank"]
        assert found["a"].dtype == np.float64 and found["a"].tolist() == [[1, 3], [2, 4]]
        (tmp_path / "a.mat").write_bytes((header + body)[:-9])
        with pytest.raises(InputError, match="truncated, damaged"):
            mat.load_mat(tmp_path / "a.mat")


def test_other_files_than_mat(tmp_path):
    for content, words in (
        (b"x" * 200, "no MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(600), "7.3"),
        (b"", "no MATLAB"),
    ):
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(InputError, match=words):
            mat.load_mat(tmp_path / "a.mat")
    with pytest.raises(InputError, match="does not exist"):
        mat.load_mat(tmp_path / "b.mat")
    with pytest.raises(InputError, match="x is <U1"):
        mat.save_mat(tmp_path / "c.mat", x=np.array("a"))
