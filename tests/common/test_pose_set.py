"""common.pose_set: look-ups, parts and joined sets; screen coordinates camera by camera; windows of frames."""

from dataclasses import replace

import pytest
import torch

from common.camera import h36m_cameras, normalise_screen, project
from common.datasets.h36m_layout import load_pose_set
from common.errors import InputError
from common.pose_set import joined, screen_keypoints, still_images, windows
from common.skeleton import H36M_16, H36M_17
from common.synthetic import dataset
from common.synthetic.dataset import ensure
from tests.tiny_dataset import FRAMES, write_tiny_dataset


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"))


def stills(count=5, **others):
    return still_images(torch.rand(count, 17, 2), H36M_17, "mpii", **others)


# ------------------------------------------------------------ sequences


def test_lookups(tiny):
    pose_set = load_pose_set(tiny, "tiny", "gt", "S9,S11")
    assert pose_set.name == "tiny" and pose_set.counts() == {"tiny": len(pose_set)}
    assert pose_set.summary() == f"S9,S11: 2 actions, 4 views, {2 * 3 * 4 * FRAMES} poses"
    rows = pose_set.find("S11", "Eating 1", 2)
    assert rows.stop - rows.start == FRAMES
    assert [pose_set.item(i) for i in range(rows.start, rows.stop)] == [
        ("S11", "Eating 1", 2, f) for f in range(FRAMES)
    ]
    assert pose_set.item(pose_set.find("S9", "Eating", 0).start) == ("S9", "Eating", 0, 0)
    one_take = load_pose_set(tiny, "tiny", "gt", "S9", actions="Eating 1")
    assert one_take.item(one_take.find("S9", "Eating", 3).start) == ("S9", "Eating 1", 3, 0)
    with pytest.raises(InputError, match="no sequence S9 Smoking view 0"):
        pose_set.find("S9", "Smoking", 0)


def check_places(pose_set):
    """Every row knows its sequence, and the sequences follow each other."""
    start = 0
    for i, seq in enumerate(pose_set.sequences):
        rows = slice(seq.start, seq.start + seq.length)
        assert seq.start == start and (pose_set.sequence[rows] == i).all()
        if seq.length:
            assert set(pose_set.first[rows].tolist()) == {rows.start}
            assert set(pose_set.last[rows].tolist()) == {rows.stop - 1}
        start = rows.stop
    assert start == len(pose_set) and pose_set.sequence.dtype == torch.int32
    assert pose_set.first.dtype == pose_set.last.dtype == torch.int64


def test_places_of_sequences_and_of_stills(tiny):
    check_places(pose_set := load_pose_set(tiny, "tiny", "gt", "S9,S11"))
    assert not pose_set.stills
    check_places(single := stills())
    assert single.stills and single.summary() == "5 poses" and single.actions == ()
    assert single.first.tolist() == single.last.tolist() == [0, 1, 2, 3, 4]


def test_a_part(tiny):
    pose_set = replace(load_pose_set(tiny, "tiny", "gt", "S9"), inputs=torch.rand(3 * 4 * FRAMES, 17, 2))
    rows = torch.tensor([0, 1, FRAMES + 1, 5 * FRAMES])
    part = pose_set.take(rows)
    check_places(part)
    assert [seq.length for seq in part.sequences] == [2, 1, 0, 0, 0, 1] + 6 * [0]
    assert [part.item(i) for i in range(4)] == [pose_set.item(i) for i in rows.tolist()]
    for name in ("keypoints", "poses", "inputs"):
        assert torch.equal(getattr(part, name), getattr(pose_set, name)[rows])
    assert torch.equal(part.action_of_item, pose_set.action_of_item[rows])


def test_joined_sets(tiny):
    first, last = (load_pose_set(tiny, "tiny", "gt", subject) for subject in ("S1", "S9"))
    mpii = stills()
    both = joined([first, mpii, last])
    check_places(both)
    assert both.name == "tiny,mpii" and both.counts() == {"tiny": len(first) + len(last), "mpii": 5}
    assert both.poses is None and torch.equal(both.keypoints[len(first) :], torch.cat((mpii.keypoints, last.keypoints)))
    assert both.item(len(first) + 5) == last.item(0) and not both.stills
    whole = joined([first, last])
    assert torch.equal(whole.poses, torch.cat((first.poses, last.poses)))
    assert torch.equal(whole.intrinsics(), torch.cat((first.intrinsics(), last.intrinsics())))
    assert joined([mpii]) is mpii
    with pytest.raises(InputError, match="mpii in pixels, Human3.6M 17 joints and mpii in screen, Human3.6M 17 joints"):
        joined([mpii, stills(unit="screen")])


def test_what_a_source_does_not_have():
    single = stills()
    with pytest.raises(InputError, match="no 3D poses"):
        _ = single.relative
    with pytest.raises(InputError, match="mpii: no camera is known"):
        single.intrinsics()
    with pytest.raises(InputError, match="mpii: no camera is known"):
        screen_keypoints(single)


def test_on_a_device(tiny):
    pose_set = load_pose_set(tiny, "tiny", "gt", "S1", device="meta")
    tensors = (pose_set.keypoints, pose_set.poses, pose_set.sequence, pose_set.frame, pose_set.first)
    tensors += (pose_set.intrinsics(), screen_keypoints(pose_set), pose_set.relative)
    assert {tensor.device.type for tensor in tensors} == {"meta"} == {pose_set.device.type}


def test_memory_of_human36m(tiny):
    """1,559,752 poses, Human3.6M's training set, fit into 600 MB."""
    pose_set = load_pose_set(tiny, "tiny", "gt", "S1")
    tensors = (pose_set.keypoints, pose_set.poses, pose_set.sequence, pose_set.frame)
    assert sum(tensor.nbytes for tensor in tensors) / len(pose_set) * 1_559_752 < 600e6


# ------------------------------------------------------------ what lifters see


@pytest.mark.parametrize("skeleton", [H36M_16, H36M_17])
def test_screen_coordinates_are_the_cameras_own(tiny, skeleton):
    pose_set = load_pose_set(tiny, "tiny", "gt", "S1,S9", downsample=3, skeleton=skeleton)
    before = pose_set.keypoints.clone()
    found = screen_keypoints(pose_set)
    assert torch.equal(pose_set.keypoints, before) and found.dtype == torch.float32
    assert pose_set.intrinsics("screen").shape == (len(pose_set.sequences), 9)
    heights = set()
    for row, seq in enumerate(pose_set.sequences):
        camera = h36m_cameras()[seq.subject][seq.view]
        heights.add(camera.height)
        assert torch.equal(pose_set.intrinsics("screen")[row], camera.intrinsics("screen"))
        rows = slice(seq.start, seq.start + seq.length)
        expected = normalise_screen(before[rows], camera.width, camera.height)
        torch.testing.assert_close(found[rows], expected, rtol=0, atol=1e-7)
    assert heights == {1000, 1002}


def test_screen_coordinates_of_a_file_stay():
    points = torch.rand(3, 17, 2)
    assert screen_keypoints(still_images(points, H36M_17, "3dhp", unit="screen")) is points


def test_synthetic_poses_project_onto_the_keypoints(tmp_path, monkeypatch):
    make = dataset.make_dataset
    monkeypatch.setattr(dataset, "make_dataset", lambda seed: make(seed, 0.5, ("S6", "S9")))
    for skeleton in (H36M_16, H36M_17):
        ensure(tmp_path, seed=None)
        pose_set = load_pose_set(tmp_path, "synthetic", "gt", "S6,S9", skeleton=skeleton)
        cameras = pose_set.intrinsics("screen")[pose_set.sequence]
        error = project(pose_set.poses, cameras[:, None]) - screen_keypoints(pose_set)
        assert len(pose_set) == 2 * 30 * 4 * 25
        assert error.abs().max() < 1e-3


def naive_window(item: int, start: int, length: int, size: int, causal: bool) -> list[int]:
    before = size - 1 if causal else size // 2
    frames = list(range(start, start + length))
    padded = [frames[0]] * size + frames + [frames[-1]] * size
    centre = padded.index(item, size) if item != start else size
    return padded[centre - before : centre - before + size]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1, 3, 9, 27])
def test_windows_stay_in_their_sequence(size, causal):
    lengths = (5, 1, 30, 2)
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    owner = [i for i, length in enumerate(lengths) for _ in range(length)]
    first = torch.tensor([starts[i] for i in owner])
    last = torch.tensor([starts[i] + lengths[i] - 1 for i in owner])
    index = torch.randperm(len(owner), generator=torch.Generator().manual_seed(0))
    found = windows(index, first[index], last[index], size, causal)
    expected = [naive_window(i, starts[owner[i]], lengths[owner[i]], size, causal) for i in index.tolist()]
    assert found.tolist() == expected
    assert found.dtype == torch.int64


def test_windows_of_other_rates_take_every_second_frame():
    index, first, last = torch.tensor([5, 5, 1]), torch.zeros(3, dtype=torch.long), torch.full((3,), 9)
    found = windows(index, first, last, 5, strides=torch.tensor([1, 2, 2]))
    assert found.tolist() == [[3, 4, 5, 6, 7], [1, 3, 5, 7, 9], [0, 0, 1, 3, 5]]
