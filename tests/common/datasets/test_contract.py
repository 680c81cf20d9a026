"""common.datasets.contract and what loading makes of it: own cameras, people, joints, units and splits; made keypoints;
missing frames; bad files in one line each.
"""

from argparse import Namespace

import numpy as np
import pytest
import torch

from common.camera import h36m_cameras, project
from common.datasets import contract
from common.datasets.contract import check_apart, load_contract, own_split, settle_test, settle_train
from common.datasets.h36m_layout import load_pose_set
from common.datasets.projected import Noise
from common.errors import InputError
from common.files.npz import save_npz
from common.h36m import TEST_LIST, TRAIN_LIST
from common.pose_set import joined, screen_keypoints
from common.rotation import quaternion_to_matrix
from common.skeleton import H36M_16, H36M_17, convert
from tests.tiny_dataset import FRAMES, metadata, tiny_keypoints, tiny_poses, write_tiny_dataset

PEOPLE = {"anna": "S1", "ben": "S9"}  # and whose motion and cameras they have here


def calibration(camera) -> dict:
    """A camera of ours as a file may have it."""
    rotation = quaternion_to_matrix(torch.tensor(camera.orientation, dtype=torch.float64)).mT.numpy()
    return {
        "focal_length": camera.focal, "center": camera.centre, "size": (camera.width, camera.height),
        "rotation": rotation, "translation": -rotation @ np.array(camera.translation),
        "radial_distortion": camera.radial, "tangential_distortion": np.array(camera.tangential), "name": camera.id,
    }  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """Writes a set "mine" of the people above, after `change(poses, keypoints, cameras)`; with `says` as metadata."""

    def write(change=None, says=None, says_2d=None, with_2d=True, with_cameras=True):
        tiny = tiny_poses(subjects=tuple(PEOPLE.values()), skeleton=H36M_17)
        seen = tiny_keypoints(tiny, H36M_17)
        poses, keypoints = ({name: tree[seat] for name, seat in PEOPLE.items()} for tree in (tiny, seen))
        cameras = {name: [calibration(c) for c in h36m_cameras()[seat]] for name, seat in PEOPLE.items()}
        if change:
            change(poses, keypoints, cameras)
        more = ({"cameras": cameras} if with_cameras else {}) | ({} if says is None else {"metadata": says})
        save_npz(tmp_path / "data_3d_mine.npz", positions_3d=poses, **more)
        if with_2d:
            says_2d = metadata() if says_2d is None else says_2d
            save_npz(tmp_path / "data_2d_mine_gt.npz", positions_2d=keypoints, metadata=says_2d)
        return tmp_path

    return write


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The same motion in Human3.6M's rooms."""
    folder = write_tiny_dataset(tmp_path_factory.mktemp("tiny"), subjects=("S1", "S9"))
    return load_pose_set(folder, "tiny", "gt", "S1,S9")


def load(folder, subjects="anna,ben", keypoints="gt", **options):
    return load_pose_set(folder, "mine", keypoints, subjects, **options)


def refusal(*args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        load(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_same(found, plain, pixels=0.01):
    torch.testing.assert_close(found.poses, plain.poses, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.keypoints, plain.keypoints, atol=pixels, rtol=0)


# ------------------------------------------------------------ cameras, units, joints


def test_own_people_and_cameras(files, plain):
    found = load(files())
    assert_same(found, plain)
    torch.testing.assert_close(screen_keypoints(found), screen_keypoints(plain))
    assert [seq.camera.id for seq in found.sequences] == [seq.camera.id for seq in plain.sequences]
    assert found.sequences[0].subject == "anna" and found.confidence is None


@pytest.mark.parametrize("unit, scale", [("m", 1), ("cm", 100), ("mm", 1000)])
@pytest.mark.parametrize("up", ["z", "y", "-y", "x"])
def test_units_and_axes_that_the_file_names(files, plain, unit, scale, up):
    turn = np.array(contract.UP[up], float)  # z-up = turn @ file's

    def change(poses, _, cameras):
        for actions in poses.values():
            actions.update({name: (scale * pose @ turn).astype(np.float32) for name, pose in actions.items()})
        for views in cameras.values():
            for view in views:
                view.update(rotation=view["rotation"] @ turn, translation=scale * view["translation"])

    folder = files(change, {"unit": unit, "up": up, "fps": 60})
    assert_same(load(folder), plain)
    (folder / "data_2d_mine_gt.npz").unlink()
    assert_same(load(folder), plain)
    said = load_contract(folder, "mine")
    assert (said.fps, said.frame, said.says_up) == (60, (unit, up), True)


def test_units_in_human36ms_rooms(files, plain):
    def change(poses, keypoints, _):
        for tree in (poses, keypoints):
            for name, seat in PEOPLE.items():
                tree[seat] = tree.pop(name)
        for actions in poses.values():
            actions.update({name: (1000 * pose)[..., (0, 2, 1)] * (1, 1, -1) for name, pose in actions.items()})

    found = load(files(change, {"unit": "mm", "up": "y"}, with_cameras=False), "S1,S9")
    assert_same(found, plain)


def test_each_action_has_cameras_of_its_own(files):
    def change(poses, keypoints, cameras):
        first, second, *_ = cameras["anna"]
        cameras["anna"] = {"Walking": [second], "Eating": [first, second], "TakingPhoto 1": [first] * 5}
        seen, poses["anna"]["Photo 1"] = keypoints["anna"], poses["anna"].pop("Eating 1")
        views = seen.pop("Eating 1")
        keypoints["anna"] = {
            "Walking": seen["Walking"][1:2], "Eating": seen["Eating"][:2], "Photo 1": [views[0]] * 5
        }  # fmt: skip

    found = load(files(change), "anna")
    assert {seq.action for seq in found.sequences} == {"Walking", "Eating", "Photo 1"}
    assert len(found.sequences) == 1 + 2 + 5
    error = project(found.poses, found.intrinsics()[found.sequence.long()].unsqueeze(1)) - found.keypoints
    assert error.abs().max() < 0.01


@pytest.mark.parametrize("skeleton", [H36M_17, H36M_16])
def test_own_joints(files, plain, skeleton):
    """Another order, other names, joints to leave out; the 2D file has the same joints, or COCO's by its own word."""
    order = np.random.default_rng(0).permutation(17)
    names = [H36M_17.joints[j].replace("left ", "L_").replace("right ", "R_").replace("foot", "ankle") for j in order]

    def change(poses, keypoints, _):
        for name in PEOPLE:
            for tree, several in ((poses[name], False), (keypoints[name], True)):
                for action, value in tree.items():
                    parts = [np.concatenate((v[:, order], v[:, :3] + 1), 1) for v in (value if several else [value])]
                    tree[action] = parts if several else parts[0]

    said = {"names": [*names, "tail", "wing", "horn"], "parents": [-1] + 19 * [0], "layout_name": "angel"}
    found = load(files(change, said, {}), skeleton=skeleton)
    torch.testing.assert_close(found.poses, convert(plain.poses, H36M_17, skeleton), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.keypoints, convert(plain.keypoints, H36M_17, skeleton), atol=0.01, rtol=0)
    again = load(files(change, said, {"names": said["names"]}), skeleton=skeleton)
    assert torch.equal(again.keypoints, found.keypoints)


def test_a_known_layout_by_its_name(files, plain):
    def change(poses, keypoints, _):
        for actions in poses.values():
            actions.update({name: pose[:, ::-1] for name, pose in actions.items()})

    backwards = {"names": H36M_17.joints[::-1]}
    assert_same(load(files(change, backwards)), plain)
    assert_same(load(files(says={"layout_name": "h36m17"}, says_2d={"layout_name": "h36m17"})), plain)


# ------------------------------------------------------------ keypoints made of poses


@pytest.mark.parametrize("skeleton", [H36M_17, H36M_16])
def test_gt_without_a_file_is_that_of_the_file(files, plain, skeleton):
    written = load(files(), skeleton=skeleton)
    (files() / "data_2d_mine_gt.npz").unlink()
    made = load(files(with_2d=False), skeleton=skeleton)
    assert torch.equal(made.poses, written.poses) and made.sequences == written.sequences
    assert (made.keypoints - written.keypoints).abs().max() < 0.01
    part = load(files(with_2d=False), skeleton=skeleton, downsample=3, views=[1, 3], actions="Eating")
    same = load(files(), skeleton=skeleton, downsample=3, views=[1, 3], actions="Eating")
    torch.testing.assert_close(part.keypoints, same.keypoints, atol=0.01, rtol=0)


def test_gt_without_a_file_in_human36ms_rooms(tmp_path, plain):
    write_tiny_dataset(tmp_path, keypoints=(), subjects=("S1", "S9"))
    found = load_pose_set(tmp_path, "tiny", "gt", "S1,S9")
    assert (found.keypoints - plain.keypoints).abs().max() < 0.01
    with pytest.raises(InputError, match="data_2d_tiny_cpn.npz not found .*; -k gt and -k noisy need no 2D file"):
        load_pose_set(tmp_path, "tiny", "cpn", "S1,S9")


def test_noisy_without_a_file(files):
    folder = files(with_2d=False)
    exact = load(folder).keypoints
    noisy = load(folder, keypoints="noisy", noise=Noise(4, 0, 7)).keypoints
    errors = noisy - exact
    assert errors.std().item() == pytest.approx(4, rel=0.03) and errors.mean().abs() < 0.2
    assert torch.equal(noisy, load(folder, keypoints="noisy", noise=Noise(4, 0, 7)).keypoints)
    assert not torch.equal(noisy, load(folder, keypoints="noisy", noise=Noise(4, 0, 8)).keypoints)
    with_outliers = (load(folder, keypoints="noisy", noise=Noise(4, 0.1, 7)).keypoints - exact).norm(dim=-1)
    assert (with_outliers > 20).float().mean().item() == pytest.approx(0.09, abs=0.02)
    assert torch.equal(load(folder, keypoints="noisy", noise=Noise(0, 0.5)).keypoints, exact)


def test_noise_belongs_to_the_frame(files):
    """Whatever part of the set is read."""
    folder, rows = files(with_2d=False), {}
    whole = load(folder, keypoints="noisy")
    part = load(folder, "ben", keypoints="noisy", downsample=3, views=[2])
    for pose_set in (whole, part):
        rows[id(pose_set)] = {pose_set.item(i): pose_set.keypoints[i] for i in range(len(pose_set))}
    assert len(part) == 3 * 4
    for item, keypoints in rows[id(part)].items():
        assert torch.equal(keypoints, rows[id(whole)][item])


def test_who_walks_behind_a_camera_is_not_seen(files, caplog):
    def change(poses, _, cameras):
        camera = cameras["anna"][0]
        place = -camera["rotation"].T @ camera["translation"]
        poses["anna"]["Walking"][4:6] += np.float32(2 * (place - poses["anna"]["Walking"][4, 0]) * (1, 1, 0))

    found = load(files(change, with_2d=False), "anna")
    lengths = [seq.length for seq in found.sequences if (seq.action, seq.view) == ("Walking", 0)]
    assert lengths == [4, FRAMES - 6]
    assert "with somebody not in front of the camera (first: subject anna, action Walking, view 0, frame 4)" in (
        caplog.text
    )


def test_a_wide_lens_sees_to_the_side(files):
    def change(poses, _, cameras):
        turned = dict(cameras["anna"][0])
        angle = np.radians(50)
        turn = np.array([(np.cos(angle), 0, np.sin(angle)), (0, 1, 0), (-np.sin(angle), 0, np.cos(angle))])
        turned.update(
            rotation=turn @ turned["rotation"], translation=turn @ turned["translation"], focal_length=(300, 300),
            radial_distortion=(), tangential_distortion=(0, 0),
        )  # fmt: skip
        cameras["anna"] = [turned]

    found = load(files(change, with_2d=False), "anna")
    slopes = found.poses[..., :2] / found.poses[..., 2:]
    assert (slopes > 1).any()
    centre = torch.tensor(found.sequences[0].camera.centre)
    torch.testing.assert_close(found.keypoints, 300 * slopes + centre, atol=0.01, rtol=1e-5)


# ------------------------------------------------------------ missing frames and confidences


def frames_of(pose_set, action="Walking", view=0):
    return [i.frame for i in map(pose_set.item, range(len(pose_set))) if (i.action, i.view) == (action, view)]


@pytest.mark.parametrize("mark", [np.nan, 0, -1, 512])
def test_frames_of_nobody(files, caplog, mark):
    def change(poses, keypoints, _):
        keypoints["anna"]["Walking"][0][[0, 4, 5]] = mark

    found = load(files(change), "anna")
    assert frames_of(found) == [1, 2, 3, 6, 7, 8, 9] and frames_of(found, view=1) == list(range(FRAMES))
    assert [seq.length for seq in found.sequences][:3] == [3, 4, FRAMES]
    assert len(found) == 12 * FRAMES - 3
    assert len(caplog.records) == 1
    assert "3 of 120 frames left out: 3 without a person in " in caplog.text
    assert "(first: subject anna, action Walking, view 0, frame 0)" in caplog.text
    last = [seq.start + seq.length for seq in found.sequences]
    assert [seq.start for seq in found.sequences] == [0, *last[:-1]] and last[-1] == len(found)
    caplog.clear()
    assert frames_of(load(files(change), "anna", downsample=2)) == [2, 6, 8]
    assert "2 of 60 frames left out" in caplog.text


def test_joints_at_zero_are_missing_ones(files, caplog):
    def change(poses, keypoints, _):
        keypoints["anna"]["Walking"][0][3, 5] = 0
        keypoints["anna"]["Walking"][0][4] = 0
        keypoints["anna"]["Walking"][0][5, 5, 0] = 0  # at the left border

    assert frames_of(load(files(change), "anna")) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert "2 of 120 frames left out: 1 without a person in " in caplog.text
    assert "1 with joints missing in " in caplog.text
    # joints that the skeleton asked for does not have may be missing
    other = files(lambda _, keypoints, __: keypoints["anna"]["Walking"][0][3, [9]].fill(0))
    assert len(frames_of(load(other, "anna", skeleton=H36M_16))) == FRAMES


def test_poses_of_nobody(files, caplog):
    def change(poses, keypoints, _):
        poses["anna"]["Walking"][2] = np.nan
        poses["anna"]["Walking"][7] = 0

    found = load(files(change), "anna")
    assert frames_of(found) == frames_of(found, view=3) == [0, 1, 3, 4, 5, 6, 8, 9]
    assert "8 of 120 frames left out: 8 without a person in" in caplog.text and "data_3d_mine.npz" in caplog.text
    assert frames_of(load(files(change, with_2d=False), "anna")) == [0, 1, 3, 4, 5, 6, 8, 9]


def test_nobody_at_all(files):
    def change(poses, keypoints, _):
        keypoints["anna"] = {name: [0 * view for view in views] for name, views in keypoints["anna"].items()}

    assert "120 of 120 frames left out: 120 without a person" in (message := refusal(files(change), "anna"))
    assert message.endswith("no poses left")


@pytest.mark.parametrize("skeleton", [H36M_17, H36M_16])
def test_confidences(files, plain, skeleton, caplog):
    scores = {}

    def change(poses, keypoints, _):
        for name, tree in keypoints.items():
            for action, views in tree.items():
                for i, view in enumerate(views):
                    score = np.random.default_rng(i).uniform(0.1, 1, (FRAMES, 17, 1)).astype(np.float32)
                    scores[name, action, i] = score[..., 0]
                    tree[action][i] = np.concatenate((view, score), -1)
        keypoints["anna"]["Walking"][1][2, :, 2] = 0  # nobody
        keypoints["anna"]["Walking"][1][3, 1, 2] = 0  # a joint that was not found
        keypoints["anna"]["Walking"][1][4, 1] = np.nan, np.nan, 0
        keypoints["anna"]["Eating"][0] = keypoints["anna"]["Eating"][0][..., :2]

    found = load(files(change), skeleton=skeleton)
    assert frames_of(found, view=1)[:3] == [0, 1, 5] and len(found) == len(plain) - 3
    assert "3 of 240 frames left out: 1 without a person" in caplog.text and "2 with joints missing" in caplog.text
    assert found.confidence.shape == (len(found), skeleton.num_joints)
    for i in range(len(found)):
        item = found.item(i)
        score = scores[item[:3]][item.frame] if item[:3] != ("anna", "Eating", 0) else np.ones(17)
        expected = convert(score[None, :, None], H36M_17, skeleton)[0, :, 0]
        np.testing.assert_allclose(found.confidence[i], expected, rtol=1e-6)
    assert torch.equal(joined([found, found]).confidence, found.confidence.repeat(2, 1))
    assert joined([found, plain]).confidence is None if skeleton is H36M_17 else True
    assert found.take(torch.tensor([3])).confidence.shape == (1, skeleton.num_joints)


def test_a_joint_that_is_nan_without_a_mark_is_damage(files):
    def change(poses, keypoints, _):
        keypoints["anna"]["Walking"][0][3, 5] = np.nan

    message = refusal(files(change), "anna")
    assert "NaN or infinity in" in message and "subject anna, action Walking, view 0, frame 3 (1 bad frames" in message


def test_damage_of_one_joint_where_joints_are_means(files):
    """The spine of a layout without one is a mean: NaN in one joint would be NaN in all, as if nobody were there."""
    names = [joint for joint in H36M_17.joints if joint not in ("spine", "thorax")]
    kept = [H36M_17.index(joint) for joint in names] + [0]

    def damaged(joint):
        def change(poses, *_):
            for actions in poses.values():
                actions.update({name: pose[:, kept].copy() for name, pose in actions.items()})
            poses["anna"]["Walking"][3, joint] = np.nan

        return files(change, {"names": [*names, "left thumb"]}, with_2d=False)

    message = refusal(damaged(names.index("left knee")), "anna")
    assert "NaN or infinity in" in message and "data_3d_mine.npz: subject anna, action Walking, view 0, fr" in message
    assert load(damaged(len(names)), "anna").poses.isfinite().all()  # of which nothing is made


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_where_joints_are_means_is_one_line(files, value):
    names = [joint for joint in H36M_17.joints if joint not in ("spine", "thorax")]

    def change(poses, *_):
        for actions in poses.values():
            actions.update({name: pose[:, list(map(H36M_17.index, names))] for name, pose in actions.items()})
        poses["anna"]["Walking"][:, 2] = value

    assert "NaN or infinity in" in refusal(files(change, {"names": names}, with_2d=False), "anna")


@pytest.mark.parametrize("kind", [np.int32, np.uint16, ">f8", np.float16])
def test_keypoints_of_any_kind_of_number(files, kind, plain):
    def change(poses, keypoints, _):
        for actions in keypoints.values():
            actions.update({name: [view.round().astype(kind) for view in views] for name, views in actions.items()})

    assert (load(files(change)).keypoints - plain.keypoints).abs().max() <= (0.51 if kind != np.float16 else 1.1)


def test_subjects_may_be_numbers(files, plain):
    def change(*trees):
        for tree in trees:
            for number, name in enumerate(PEOPLE):
                tree[number] = tree.pop(name)

    assert torch.allclose(load(files(change, {"subjects_train": [0]}), "0,1").poses, plain.poses, atol=1e-5)


def test_keypoints_that_are_no_pixels_of_any_picture(files):
    def change(_, keypoints, __):
        keypoints["ben"]["Eating"][1] *= 1e20

    assert "subject ben, action Eating, view 1: coordinates are " in refusal(files(change))


# ------------------------------------------------------------ wrong units


def scaled(factor):
    def change(poses, *_):
        for actions in poses.values():
            actions.update({name: factor * pose for name, pose in actions.items()})

    return change


def turned_up(axis):
    def change(poses, _, cameras):
        turn = np.array(contract.UP[axis], float)
        for actions in poses.values():
            actions.update({name: (pose @ turn).astype(np.float32) for name, pose in actions.items()})
        for views in cameras.values():
            for view in views:
                view.update(rotation=view["rotation"] @ turn)

    return change


@pytest.mark.parametrize("factor, looks", [(1000, "millimetres"), (100, "centimetres")])
def test_poses_in_another_unit(files, factor, looks):
    unit = {"millimetres": "mm", "centimetres": "cm"}[looks]
    message = refusal(files(scaled(factor)))
    assert f"metres from the hip, which looks like {looks}; " in message and "data_3d_mine.npz: the joints" in message
    assert f"metadata {{'unit': '{unit}'}}" in message
    assert looks in refusal(files(scaled(factor), with_2d=False))
    assert "which looks like metres" in refusal(files(says={"unit": unit}))


def test_poses_in_no_unit(files):
    for factor in (10, 3.281, 0.01):  # nothing, feet, nothing
        assert refusal(files(scaled(factor))).endswith("metres from the hip; give the poses in metres")


def test_poses_in_another_unit_than_their_cameras(files, caplog):
    load(files(scaled(1000), {"unit": "mm"}, with_2d=False))
    (message,) = caplog.messages
    assert "with somebody not in front of the camera" in message
    assert message.endswith("are poses and cameras in one unit and frame?")


@pytest.mark.parametrize("axis", ["y", "-y", "-z", "x"])
def test_people_on_their_side(files, plain, axis, caplog):
    """With cameras of their own the axis that they stand along is up; in Human3.6M's rooms they are refused."""
    found = load(files(turned_up(axis)))
    assert_same(found, plain)
    assert f"people stand along {axis}, not z: taken as the axis that points up" in caplog.text

    def seats(*trees):
        turned_up(axis)(*trees)
        for tree in trees:
            for name, seat in PEOPLE.items():
                tree[seat] = tree.pop(name)

    for with_2d in (True, False):
        message = refusal(files(seats, with_cameras=False, with_2d=with_2d), "S1,S9")
        assert f"people stand along {axis}, not z" in message and f"metadata {{'up': '{axis}'}}" in message
        if not with_2d:
            (files() / "data_2d_mine_gt.npz").unlink()


def test_people_may_lie_where_the_file_says_what_is_up(files, caplog):
    found = load(files(turned_up("y"), {"up": "z"}))
    assert len(found) == 2 * 12 * FRAMES
    assert "data_3d_mine.npz: metadata's up is z, but people do not stand along it" in caplog.text
    caplog.clear()
    load(files(turned_up("y"), {"up": "y"}))
    assert not caplog.messages


@pytest.mark.parametrize("share", [(1, 1), (1000, 1000), (500, 500)])
def test_normalised_keypoints(files, share):
    def change(_, keypoints, __):
        for tree in keypoints.values():
            for views in tree.values():
                views[2] /= 1000 if share == (1, 1) else 500
                views[2] -= 0 if share == (1, 1) else 1

    message = refusal(files(change))
    assert "subject anna, action Walking, view 2: the largest coordinate is" in message
    assert "these look normalised; expected pixels" in message


def test_keypoints_elsewhere(files, caplog):
    """Views in another order, say: a warning, as a set whose poses are only relative has no such place either."""

    def change(_, keypoints, __):
        for tree in keypoints.values():
            for action, views in tree.items():
                tree[action] = [0.3 * view + 500 for view in views[::-1]]

    load(files(change))
    assert "from where the cameras see the poses" in caplog.text and len(caplog.records) == 1
    caplog.clear()
    load(files())
    assert not caplog.records


# ------------------------------------------------------------ splits


SPLIT = {"subjects_train": ["anna"], "subjects_test": "ben"}


def test_the_files_own_split(files, tmp_path):
    folder = files(says=SPLIT)
    assert own_split(folder, "mine") == ("anna", "ben")
    assert own_split(folder, "other") == (TRAIN_LIST, TEST_LIST)
    assert own_split(files(), "mine") == (TRAIN_LIST, TEST_LIST)
    files(says={"subjects_train": ["anna"]})
    assert own_split(folder, "mine") == ("anna", TEST_LIST)


def test_options_left_open_take_the_split(files):
    folder = files(says=SPLIT)

    def settled(names, train="", test=""):
        args = Namespace(data_dir=folder, subjects_train=train, subjects_test=test)
        settle_train(args, names)
        settle_test(args, names.split(",")[0])
        return args.subjects_train, args.subjects_test

    assert settled("mine") == ("anna", "ben")
    assert settled("mine,nowhere") == ("anna", "ben")
    assert settled("nowhere") == (TRAIN_LIST, TEST_LIST)
    assert settled("mine", "ben", "anna") == ("ben", "anna")
    write_tiny_dataset(folder)
    assert settled("tiny,mine") == ("", TEST_LIST)  # each its own
    assert settled("tiny") == (TRAIN_LIST, TEST_LIST)
    check_apart(Namespace(subjects_train="anna", subjects_test="ben"))
    with pytest.raises(InputError, match="^ben to train and to test on: name other people with --subjects-train"):
        check_apart(Namespace(subjects_train="anna,ben", subjects_test="ben, carl"))


def test_splits_that_cannot_be(files):
    message = refusal(files(says={"subjects_train": ["anna", "carl"]}))
    assert "subjects_train of its metadata has unknown subject carl; positions_3d has: anna, ben" in message
    message = refusal(files(says={"subjects_train": ["anna", "ben"], "subjects_test": ["ben"]}))
    assert "metadata has ben in subjects_train and in subjects_test" in message
    with pytest.raises(InputError, match="metadata has ben in subjects_train and in subjects_test"):
        own_split(files(says={"subjects_train": ["ben"], "subjects_test": ["ben"]}), "mine")
    assert "unknown subject S1; " in (message := refusal(files(), "S1")) and "has: anna, ben; choose with" in message


# ------------------------------------------------------------ bad files


@pytest.mark.parametrize(
    "says, words",
    [
        (["fps"], "data_3d_mine.npz: metadata is no dictionary"),
        ({"unit": "inch"}, "metadata's unit is 'inch'; expected m, cm or mm"),
        ({"up": "w"}, "metadata's up is 'w'; expected the axis that points up: z, y"),
        ({"fps": 0}, "metadata's fps is 0"),
        ({"fps": "fast"}, "metadata's fps is 'fast'"),
        ({"subjects_train": 5}, "metadata's subjects_train is 5; expected a list of names"),
        ({"layout_name": "spider"}, "names the joint layout 'spider'; known: h36m, coco, mpii"),
        ({"names": 5}, "metadata's names is 5; expected a list of names"),
        ({"names": H36M_17.joints, "parents": ["a"] * 17}, "expected whole numbers, -1 for the root"),
        ({"names": H36M_17.joints[:15]}, "has 17 joints; expected the 15 joints named in"),
        (
            {"names": [f"joint {i}" for i in range(17)], "layout_name": "dots"},
            "Human3.6M 17 joints: it has no hip, right",
        ),
        ({"names": [f"joint {i}" for i in range(17)], "layout_name": "dots"}, "cannot convert dots of "),
    ],
)
def test_bad_metadata(files, says, words):
    assert words in refusal(files(says=says))


def test_cameras_that_do_not_fit(files):
    def change(name, value):
        return lambda _, __, cameras: cameras.__setitem__(name, value(cameras[name]))

    message = refusal(files(change("anna", lambda views: views[:3])))
    assert "has 4 views of subject anna, action Walking; expected 3, one for each camera of " in message
    message = refusal(files(lambda _, __, cameras: cameras.pop("anna")))
    assert "no camera calibration for anna; there is for: ben; 'cameras' in" in message
    message = refusal(files(change("anna", lambda views: {"Walking": views})))
    assert "no camera calibration for anna, action Eating; there is" in message
    message = refusal(files(change("ben", lambda views: [*views[:3], {**views[3], "rotation": np.ones((3, 3))}])))
    assert "cameras of subject ben, view 3: rotation is none" in message
    message = refusal(files(with_cameras=False))
    assert "no camera calibration for anna, ben" in message or "no camera calibration for anna; there is" in message
    message = refusal(files(with_2d=False, with_cameras=False))
    assert "no camera calibration for anna" in message


def test_pictures_without_a_size(files):
    def change(_, __, cameras):
        for views in cameras.values():
            for view in views:
                del view["size"]

    found = load(files(change))
    assert found.intrinsics().shape == (24, 9)  # ITES needs no more
    with pytest.raises(InputError, match="^camera 54138969: the size of its pictures is not known, which screen"):
        screen_keypoints(found)


def test_keypoints_in_an_unknown_layout(files):
    message = refusal(files(says_2d={"names": ["left eye"] + [f"dot {i}" for i in range(16)], "layout_name": "dots"}))
    assert "cannot convert dots of" in message and "data_2d_mine_gt.npz to Human3.6M 17 joints" in message
