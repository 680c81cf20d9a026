"""The augmentor's picture: stages in columns, upright, sides as the camera sees them, nothing lost off the screen."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from common.draw.colours import COLOURS
from common.errors import InputError
from common.skeleton import H36M_16
from methods.poseaug.pictures import STAGES, save_augmentation, save_stages


def facing() -> np.ndarray:
    """A person (16, 3) 5 m before the camera who faces it: camera frame, metres; their left is at the image's right."""
    pose = np.zeros((16, 3))
    height = (0, 0, -0.45, -0.9, 0, -0.45, -0.9, 0.25, 0.5, 0.75, 0.45, 0.2, 0.0, 0.45, 0.2, 0.0)
    pose[:, 1] = -np.array(height)  # y points down
    pose[list(H36M_16.left), 0] = 0.2
    pose[list(H36M_16.right), 0] = -0.2
    pose[[12, 15], 2] = -0.4  # both hands reach for the camera
    return pose + (0.3, 0.2, 5.0)


def stages(shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (4, 16, 2) and poses (4, 16, 3); the last stage is turned upside down, and moved in 2D."""
    poses = np.stack([facing()] * 4)
    poses[3, :, :2] = 2 * poses[3, :1, :2] - poses[3, :, :2]
    keypoints = 2.3 * poses[..., :2] / poses[..., 2:]
    keypoints[3, :, 0] += shift
    return keypoints, poses


def panel(path, row: int, column: int) -> np.ndarray:
    """The pixels of one panel of a picture with four columns and three rows."""
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    left, top = 78 + 260 * column, 62 + 260 * row
    return picture[top : top + 250, left : left + 250]


def where(picture: np.ndarray, side: str) -> np.ndarray:
    """(row, column) of the pixels in a side's colour."""
    return np.argwhere((picture == np.round(np.array(to_rgb(COLOURS[side])) * 255)).all(-1))


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return save_stages(tmp_path_factory.mktemp("pictures") / "a.png", *stages())


@pytest.mark.parametrize("row", [0, 1])
def test_person_facing_the_camera_is_upright_and_their_left_is_at_the_right(picture, row):
    for column in range(3):
        left, right, centre = (where(panel(picture, row, column), side) for side in ("left", "right", "centre"))
        assert min(len(left), len(right), len(centre)) > 20
        assert right[:, 1].mean() < centre[:, 1].mean() < left[:, 1].mean()
        assert centre[:, 0].min() < left[:, 0].min() < left[:, 0].max() - 15  # head above shoulders above feet
    upside_down = panel(picture, row, 3)
    left, right, centre = (where(upside_down, side) for side in ("left", "right", "centre"))
    assert left[:, 1].mean() < right[:, 1].mean() and centre[:, 0].max() > left[:, 0].max()


def test_side_view_has_the_camera_at_the_left(picture):
    seen = panel(picture, 2, 0)
    limbs = np.concatenate([where(seen, "left"), where(seen, "right")])
    trunk = where(seen, "centre")
    assert limbs[:, 1].min() < trunk[:, 1].min() - 30  # the hands, towards the camera
    assert limbs[:, 1].max() < trunk[:, 1].max() + 15


def test_2d_pose_lies_where_the_screen_coordinates_say(tmp_path):
    keypoints, poses = stages()
    keypoints[:] = (0.5, -0.5)  # right, above
    path = save_stages(tmp_path / "point.png", keypoints, poses)
    # the screen, -1 to 1, takes 1/1.06 of the panel
    expected = 125 + 0.5 * 125 / 1.06
    np.testing.assert_allclose(where(panel(path, 0, 0), "centre").mean(0), (250 - expected, expected), atol=1.5)


def test_what_leaves_the_screen_still_shows_and_all_columns_share_a_scale(tmp_path, picture):
    path = save_stages(tmp_path / "out.png", *stages(shift=1.2))
    wide, narrow = where(panel(path, 0, 3), "left"), where(panel(path, 0, 0), "left")
    assert wide[:, 1].max() < 249 and wide[:, 1].mean() > 170
    assert np.ptp(narrow[:, 0]) < 0.8 * np.ptp(where(panel(picture, 0, 0), "left")[:, 0])


def test_tensors_missing_joints_and_any_number_of_stages(tmp_path):
    keypoints, poses = map(torch.from_numpy, stages())
    poses[0, 9] = float("nan")
    path = save_augmentation(
        tmp_path / "new" / "b.png",
        {"a $x": poses[0], "b": poses[1]},
        {"b": keypoints[1], "a $x": keypoints[0]},
        H36M_16,
    )
    with Image.open(path) as image:
        assert image.width == 78 + 2 * 260
    assert len(where(panel(path, 1, 0), "centre")) < len(where(panel(path, 1, 1), "centre")) - 20  # no head


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda k, p: ("a.jpg", p, k), "unknown format '.jpg'"),
        (lambda k, p: ("a.png", p, {"original": k["original"]}), "same stages"),
        (lambda k, p: ("a.png", {}, {}), "at least one"),
        (lambda k, p: ("a.png", p | {"original": np.zeros((17, 3))}, k), "'original': found shape .*16"),
        (lambda k, p: ("a.png", p, k | {"bone angle": np.zeros((16, 3))}), "'bone angle': found shape"),
    ],
)
def test_bad_input_is_named_and_leaves_no_file(tmp_path, change, message):
    keypoints, poses = (dict(zip(STAGES, part, strict=True)) for part in stages())
    name, poses, keypoints = change(keypoints, poses)
    with pytest.raises(InputError, match=message):
        save_augmentation(tmp_path / name, poses, keypoints, H36M_16)
    assert not list(tmp_path.iterdir())


def test_wrong_number_of_stages_is_refused(tmp_path):
    keypoints, poses = stages()
    with pytest.raises(InputError, match="3 sets of keypoints and 4 poses, expected 4"):
        save_stages(tmp_path / "a.png", keypoints[:3], poses)
