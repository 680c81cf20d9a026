"""common.datasets.h36m_layout: files to flat tensors, checked against plain loops; bad files end in one line."""

import hashlib
import logging

import numpy as np
import pytest
import torch

from common.camera import camera_to_world, h36m_cameras, project, world_to_camera
from common.datasets.h36m_layout import load_pose_set
from common.errors import InputError
from common.files.npz import save_npz
from common.skeleton import COCO_17, H36M_16, H36M_17, H36M_32, convert
from tests.tiny_dataset import ACTIONS, FRAMES, metadata, tiny_keypoints, tiny_poses, write_tiny_dataset

KEPT = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]  # of the 32 joints


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny"), keypoints=("gt", "noisy"))


@pytest.fixture
def files(tmp_path):
    """Writes a tiny data set after `change(poses, keypoints)` had its way with it."""

    def write(change=None, name="tiny", meta=None, **arrays):
        poses = tiny_poses(subjects=("S1", "S9", "S11"))
        keypoints = tiny_keypoints(poses)
        if change:
            change(poses, keypoints)
        save_npz(tmp_path / f"data_3d_{name}.npz", positions_3d=poses)
        save_npz(tmp_path / f"data_2d_{name}_gt.npz", **{"positions_2d": keypoints, "metadata": meta or metadata()})
        return tmp_path

    return write


def refusal(*args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        load_pose_set(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def naive(subjects, actions=ACTIONS, views=range(4), window=lambda length: range(length)):
    """The same items by nested loops: (keypoints, poses, subject, action, view, frame)."""
    poses = tiny_poses()
    keypoints = tiny_keypoints(poses)
    for subject in subjects:
        for action in actions:
            for view in views:
                camera = h36m_cameras()[subject][view]
                rotation, translation = torch.tensor(camera.orientation), torch.tensor(camera.translation)
                for frame in window(FRAMES):
                    world = torch.from_numpy(poses[subject][action][frame][KEPT])
                    pose = world_to_camera(world, rotation, translation)
                    yield keypoints[subject][action][view][frame], pose, subject, action, view, frame


# ------------------------------------------------------------------------------------------------------------- contents


@pytest.mark.parametrize(
    "options, loop",
    [
        ({}, {}),
        ({"views": (2, 0)}, {"views": (0, 2)}),
        ({"actions": "Eating"}, {"actions": ("Eating", "Eating 1")}),
        ({"downsample": 3}, {"window": lambda n: range(n)[::3]}),
        ({"subset": 0.5, "downsample": 2}, {"window": lambda n: range(n)[naive_start(n, 4) :][:4:2]}),
        ({"subset": 0.3}, {"window": lambda n: range(n)[naive_start(n, 3) :][:3]}),
    ],
)
def test_layout_equals_nested_loops(tiny, options, loop):
    pose_set = load_pose_set(tiny, "tiny", "gt", ["S9", "S1"], **options)
    items = list(naive(("S9", "S1"), **loop))
    assert len(pose_set) == len(items) > 0
    for i, (keypoints, pose, subject, action, view, frame) in enumerate(items):
        assert pose_set.item(i) == (subject, action, view, frame)
        assert np.array_equal(pose_set.keypoints[i].numpy(), keypoints)
        torch.testing.assert_close(pose_set.poses[i], pose, atol=1e-6, rtol=0)
        sequence = int(pose_set.sequence[i])
        camera = h36m_cameras()[subject][view]
        assert pose_set.sequences[sequence].camera == camera
        assert pose_set.actions[pose_set.action_of_item[i]] == action.split(" ")[0]
    assert [seq.start for seq in pose_set.sequences] == np.cumsum([0] + [s.length for s in pose_set.sequences])[
        :-1
    ].tolist()
    assert pose_set.keypoints.dtype == pose_set.poses.dtype == torch.float32
    assert pose_set.frame.dtype == pose_set.sequence.dtype == torch.int32


def naive_start(length: int, count: int) -> int:
    share = int.from_bytes(hashlib.sha256(str(length).encode()).digest()[:4], "little") / 0xFFFFFFFF
    return int(share * (length - count + 1))


def test_poses_project_onto_the_keypoints(tiny):
    pose_set = load_pose_set(tiny, "tiny", "gt", "S1,S5,S6,S7,S8,S9,S11")
    for intrinsics, seq in zip(pose_set.intrinsics(), pose_set.sequences, strict=True):
        rows = slice(seq.start, seq.start + seq.length)
        error = project(pose_set.poses[rows], intrinsics) - pose_set.keypoints[rows]
        assert error.abs().max() < 1e-2
        assert (pose_set.poses[rows, :, 2] > 1).all()  # in front of the camera
        head, foot = pose_set.skeleton.index("head"), pose_set.skeleton.index("left foot")
        assert (pose_set.poses[rows, head, 1] < pose_set.poses[rows, foot, 1]).all()  # y points down


@pytest.mark.parametrize("layout", [H36M_17, H36M_16])
def test_files_with_fewer_joints(tmp_path, tiny, layout):
    write_tiny_dataset(tmp_path, joints_3d=H36M_17, subjects=("S1",), keypoints=())
    poses = tiny_poses(subjects=("S1",))
    keypoints = {
        "S1": {a: [convert(v, H36M_17, layout) for v in views] for a, views in tiny_keypoints(poses)["S1"].items()}
    }
    save_npz(tmp_path / "data_2d_tiny_gt.npz", positions_2d=keypoints)  # and no metadata
    full = load_pose_set(tiny, "tiny", "gt", "S1")
    found = load_pose_set(tmp_path, "tiny", "gt", "S1", skeleton=H36M_16)
    assert found.skeleton is H36M_16
    torch.testing.assert_close(found.poses, convert(full.poses, H36M_17, H36M_16))
    assert torch.equal(found.keypoints, convert(full.keypoints, H36M_17, H36M_16))


@pytest.mark.parametrize("layout_3d", [H36M_32, H36M_17, H36M_16])
@pytest.mark.parametrize("layout_2d", [H36M_32, H36M_17, H36M_16])
def test_every_pair_of_layouts_becomes_16_joints_by_name(tmp_path, layout_3d, layout_2d):
    """The value of a joint tells its name: no layout may lend another joint's place."""
    names = ["", *dict.fromkeys(joint for skeleton in (H36M_32, H36M_17, H36M_16) for joint in skeleton.joints)]
    codes_3d, codes_2d = (np.array([names.index(j) for j in s.joints], np.float32) for s in (layout_3d, layout_2d))
    world = (np.tile(codes_3d[None, :, None], (5, 1, 3)) + np.arange(5, dtype=np.float32)[:, None, None]) / 50
    pixels = np.tile(codes_2d[None, :, None], (5, 1, 2))
    save_npz(tmp_path / "data_3d_tiny.npz", positions_3d={"S1": {"Eating": world}})
    save_npz(tmp_path / "data_2d_tiny_gt.npz", positions_2d={"S1": {"Eating": [pixels] * 4}})
    pose_set = load_pose_set(tmp_path, "tiny", "gt", "S1", skeleton=H36M_16)
    expected = torch.tensor([float(names.index(joint)) for joint in H36M_16.joints])
    assert pose_set.skeleton is H36M_16 and names[int(expected[9])] == "head"
    assert torch.equal(pose_set.keypoints, expected[None, :, None].expand(20, 16, 2))
    camera = pose_set.sequences[0].camera
    back = camera_to_world(pose_set.poses[:5], torch.tensor(camera.orientation), torch.tensor(camera.translation))
    torch.testing.assert_close(back, torch.from_numpy(world[:, [layout_3d.index(j) for j in H36M_16.joints]]))


# ----------------------------------------------------------------------------------------------------- actions, windows


def test_exact_actions_of_a_file(files):
    def rename(*trees):
        for tree in trees:
            tree["S1"]["SittingDown 1"], tree["S1"]["Sitting 1"] = tree["S1"].pop("Eating"), tree["S1"].pop("Eating 1")

    folder = files(rename)
    for exact, actions in ((False, {"Sitting 1", "SittingDown 1"}), (True, {"Sitting 1"})):
        pose_set = load_pose_set(folder, "tiny", "gt", "S1", actions="Sitting", exact_actions=exact)
        assert {seq.action for seq in pose_set.sequences} == actions
    message = refusal(folder, "tiny", "gt", "S1", actions="Sit", exact_actions=True)
    assert "unknown action 'Sit'; there are: Walking, " in message and "Sitting" in message


def test_names_levelled_across_files(files):
    def rename(poses, keypoints):
        poses["S1"]["TakingPhoto 1"] = poses["S1"].pop("Eating 1")
        keypoints["S1"]["Photo 1"] = keypoints["S1"].pop("Eating 1")

    pose_set = load_pose_set(files(rename), "tiny", "gt", "S1", actions="Photo")
    assert {seq.action for seq in pose_set.sequences} == {"Photo 1"} and len(pose_set) == 4 * FRAMES


def test_missing_files(tiny, tmp_path):
    message = refusal(tiny, "tiny", "cpn", "S1")
    for part in ("data_2d_tiny_cpn.npz not found", str(tiny.absolute()), "gt, noisy", "--data-dir", "-d synthetic"):
        assert part in message
    assert "data_3d" not in message.split(";")[0]
    message = refusal(tmp_path / "nowhere", "h36m", "gt", "S1")
    for part in ("data_3d_h36m.npz and data_2d_h36m_gt.npz", "nowhere", "VideoPose3D", "-d synthetic -k gt"):
        assert part in message


def test_damaged_file(files):
    path = files() / "data_3d_tiny.npz"
    path.write_bytes(path.read_bytes()[:1000])
    assert "data_3d_tiny.npz is truncated or damaged" in refusal(path.parent, "tiny", "gt", "S1")
    save_npz(path, poses=np.zeros(3))
    assert "has no array positions_3d; it has: poses" in refusal(path.parent, "tiny", "gt", "S1")
    for content in (np.zeros(3), {"S1": np.zeros(3)}, np.array(None)):
        save_npz(path, positions_3d=content)
        assert "not a dict of subject -> action" in refusal(path.parent, "tiny", "gt", "S1")


def test_unknown_names(tiny):
    assert "unknown subject S2; " in refusal(tiny, "tiny", "gt", "S1,S2")
    assert "has: S1, S5, S6, S7, S8, S9, S11" in refusal(tiny, "tiny", "gt", "S2")
    assert "unknown subject" in refusal(tiny, "tiny", "gt", "")
    assert "unknown action 'Run'; there are: Walking, Eating" in refusal(tiny, "tiny", "gt", "S1", actions="Run")
    assert "unknown view 4; there are views 0 to 3" in refusal(tiny, "tiny", "gt", "S1", views=(1, 4))
    assert "--subset" in refusal(tiny, "tiny", "gt", "S1", subset=2)
    assert "no poses left" in refusal(tiny, "tiny", "gt", "S1", subset=0.01)


def test_subject_without_cameras(files):
    def add(poses, keypoints):
        poses["S2"], keypoints["S2"] = poses["S1"], keypoints["S1"]

    assert "no camera calibration for S2; there is for: S1, S5" in refusal(files(add), "tiny", "gt", "S2")


def test_longer_keypoints_are_cut_at_the_end(files):
    def lengthen(poses, keypoints):
        views = keypoints["S1"]["Walking"]
        views[1] = np.concatenate((views[1], np.full((5, 17, 2), 7, np.float32)))

    pose_set = load_pose_set(files(lengthen), "tiny", "gt", "S1")
    assert pose_set.sequences[1].length == FRAMES and not (pose_set.keypoints == 7).any()


def shorten(subject, action):
    def change(poses, keypoints):
        if action not in keypoints[subject]:
            for tree in (poses, keypoints):
                tree[subject][action] = tree[subject].pop("Eating 1")
        keypoints[subject][action][2] = keypoints[subject][action][2][:6]

    return change


def test_shorter_keypoints_are_refused(files):
    message = refusal(files(shorten("S9", "Eating")), "tiny", "gt", "S9")
    assert "2D shorter than 3D: subject S9, action Eating, view 2 has 6 frames, 10 poses" in message
    assert "2D shorter" in refusal(files(shorten("S9", "Directions"), "h36m"), "h36m", "gt", "S9")
    assert "2D shorter" in refusal(files(shorten("S11", "Walking"), "h36m"), "h36m", "gt", "S11")
    assert "2D shorter" in refusal(files(shorten("S11", "Directions")), "tiny", "gt", "S11")  # not Human3.6M's video


def test_directions_of_s11(files, caplog):
    folder = files(shorten("S11", "Directions"), "h36m")
    pose_set = load_pose_set(folder, "h36m", "gt", "S9,S11")
    lengths = {seq.view: seq.length for seq in pose_set.sequences if seq.action == "Directions"}
    assert lengths == {0: 10, 1: 10, 2: 6, 3: 10}
    assert "cut to it: subject S11, action Directions, view 2 has 6 frames, 10 poses" in caplog.text
    assert len(load_pose_set(folder, "h36m", "gt", "S11", subset=0.5, views=[2], actions="Directions")) == 3


@pytest.mark.parametrize("lacking", [0, 1])
def test_directions_of_s11_in_one_file_only(files, lacking):
    def drop(*trees):
        for tree in trees:
            tree["S11"]["Directions"] = tree["S11"].pop("Eating 1")
        del trees[lacking]["S11"]["Directions"]

    pose_set = load_pose_set(files(drop, "h36m"), "h36m", "gt", "S11")
    assert {seq.action for seq in pose_set.sequences} == {"Walking", "Eating"}


def test_action_in_one_file_only(files, caplog):
    def drop(number, action):
        return lambda *trees: trees[number]["S9"].pop(action)

    message = refusal(files(drop(1, "Eating 1")), "tiny", "gt", "S9")
    assert "no keypoints of subject S9, action Eating 1" in message
    assert len(load_pose_set(files(drop(1, "Eating 1")), "tiny", "gt", "S9", actions="Walking")) == 4 * FRAMES
    with caplog.at_level(logging.WARNING):
        pose_set = load_pose_set(files(drop(0, "Walking")), "tiny", "gt", "S9")
    assert pose_set.actions == ("Eating",) and "S9 Walking left out" in caplog.text
    assert "no action in both" in refusal(files(drop(0, "Walking")), "tiny", "gt", "S9", actions="Walking")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(files, value):
    def spoil(tree):
        def change(*trees):
            points = trees[tree]["S9"]["Eating 1"]
            (points[3] if tree else points)[6, 2] = value

        return change

    for tree, (file, view) in enumerate((("data_3d_tiny.npz", 0), ("data_2d_tiny_gt.npz", 3))):
        folder = files(spoil(tree))
        for options in ({}, {"downsample": 2}):
            message = refusal(folder, "tiny", "gt", "S1,S9", **options)
            assert f"{file}: subject S9, action Eating 1, view {view}, frame 6 (1 bad frames" in message
        assert len(load_pose_set(folder, "tiny", "gt", "S1,S9", actions="Walking")) == 8 * FRAMES


def test_large_numbers_are_numbers(files):
    """A sum that overflows is no reason to refuse."""

    def enlarge(poses, keypoints):
        keypoints["S9"]["Walking"][0][:, 3] *= 1e35

    assert len(load_pose_set(files(enlarge), "tiny", "gt", "S9")) == 3 * 4 * FRAMES


def test_wrong_shapes(files):
    def replace_3d(array):
        return lambda poses, _: poses["S9"].update(Eating=array)

    def replace_2d(array):
        return lambda _, keypoints: keypoints["S9"]["Eating"].__setitem__(1, array)

    cases = [
        (replace_3d(np.zeros((10, 15, 3))), "action Eating has 15 joints; expected Human3.6M 32 joints"),
        (replace_3d(np.zeros((10, 32, 2))), "has shape (10, 32, 2); expected (frames, joints, 3)"),
        (replace_3d(np.zeros((10, 96))), "is not a number array"),
        (replace_3d("text"), "is not a number array"),
        (replace_2d(np.zeros((10, 18, 2))), "view 1 has 18 joints; expected Human3.6M 17 joints"),
        (replace_2d(np.zeros((10, 17, 4))), "view 1 has shape (10, 17, 4); expected (frames, joints, 2), or (frames, "),
        (replace_2d([1, 2]), "view 1 is not a number array"),
        (lambda _, keypoints: keypoints["S9"].update(Eating=5), "view 0 is not a number array"),
        (lambda _, keypoints: keypoints["S9"].update(Eating=keypoints["S9"]["Eating"][0]), "view 0 is not a number"),
        (lambda _, keypoints: keypoints["S9"]["Eating"].pop(), "has 3 views of subject S9, action Eating; expected 4"),
        (lambda poses, _: poses["S9"].clear(), "data_3d_tiny.npz has no actions for S9"),
        (lambda poses, _: poses["S9"].update(Photo=1, TakingPhoto=1), "one action under two names"),
    ]
    for change, words in cases:
        assert words in refusal(files(change), "tiny", "gt", "S9")
    wrong_everywhere = {subject: {a: np.zeros((10, 15, 3)) for a in ACTIONS} for subject in ("S1", "S9")}
    message = refusal(files(lambda poses, _: poses.update(wrong_everywhere)), "tiny", "gt", "S1,S9")
    assert "15 joints; expected Human3.6M 32 joints or Human3.6M 17 joints or Human3.6M 16 joints" in message


def test_other_keypoint_layouts(files):
    message = refusal(files(meta={"layout_name": "coco", "num_joints": 17}), "tiny", "gt", "S9", skeleton=H36M_32)
    assert COCO_17.name in message and H36M_32.name in message
    assert "joint layout 'humaneva15'; known: h36m, coco, mpii" in refusal(
        files(meta={"layout_name": "humaneva15"}), "tiny", "gt", "S9"
    )
