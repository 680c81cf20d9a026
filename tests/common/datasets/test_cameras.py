"""common.datasets.cameras: dictionaries of calibrations -> cameras that see the same; what is none is refused."""

import re

import numpy as np
import pytest
import torch

from common.camera import h36m_cameras, world_to_camera
from common.datasets.cameras import UP, Frame, read_camera, read_cameras
from common.errors import InputError
from common.rotation import quaternion_to_matrix

CAMERA = h36m_cameras()["S9"][2]
ROTATION = quaternion_to_matrix(torch.tensor(CAMERA.orientation, dtype=torch.float64)).mT.numpy()
PLACE = np.array(CAMERA.translation)
LENS = {
    "focal_length": CAMERA.focal, "center": CAMERA.centre, "size": (1000, 1000), "name": "58860488",
    "radial_distortion": CAMERA.radial, "tangential_distortion": CAMERA.tangential,
}  # fmt: skip
OURS = {**LENS, "rotation": ROTATION, "translation": -ROTATION @ PLACE}


def sees(camera, points: np.ndarray) -> np.ndarray:
    orientation, place = (torch.tensor(v, dtype=torch.float64) for v in (camera.orientation, camera.translation))
    return world_to_camera(torch.from_numpy(points), orientation, place).numpy()


@pytest.mark.parametrize(
    "values",
    [
        OURS,
        {**LENS, "rotation": ROTATION.tolist(), "translation": (-ROTATION @ PLACE)[:, None]},
        {**LENS, "rotation": ROTATION, "position": PLACE},
        {**LENS, "orientation": CAMERA.orientation, "position": PLACE},
        {**LENS, "orientation": np.float32(CAMERA.orientation), "translation": PLACE},
    ],
)
def test_every_form_gives_the_same_camera(values):
    found = read_camera(values, "here")
    points = np.random.default_rng(0).normal(0, 2, (50, 3))
    np.testing.assert_allclose(sees(found, points), points @ ROTATION.T - ROTATION @ PLACE, atol=1e-6)
    assert (found.id, found.size, found.focal, found.centre) == ("58860488", (1000, 1000), CAMERA.focal, CAMERA.centre)
    assert (found.radial, found.tangential) == (CAMERA.radial, CAMERA.tangential)


def test_videopose3d_cameras_are_ours():
    """To the last digit: what its tables hold is not computed anew."""
    values = {**LENS, "orientation": CAMERA.orientation, "translation": PLACE, "res_w": 1000, "res_h": 1000}
    del values["size"], values["name"]
    assert read_camera({**values, "id": CAMERA.id}, "here") == CAMERA


@pytest.mark.parametrize("up", UP)
@pytest.mark.parametrize("form", ["rotation", "orientation"])
def test_any_axis_up_and_any_unit(up, form):
    """Poses and cameras of a file are turned together: a camera sees what it saw, in metres, and up is z."""
    frame = Frame("mm", up)
    pose = {"translation": 1000 * OURS["translation"]} if form == "rotation" else {"position": 1000 * PLACE}
    pose[form] = ROTATION if form == "rotation" else CAMERA.orientation
    points = np.random.default_rng(0).normal(0, 2, (50, 3))
    world = frame.to_world(torch.from_numpy(1000 * points)).numpy()
    found = sees(read_camera({**LENS, **pose}, "here", frame), world)
    np.testing.assert_allclose(found, points @ ROTATION.T - ROTATION @ PLACE, atol=1e-6)
    axis = np.zeros(3)
    axis["xyz".index(up[-1])] = -1 if up.startswith("-") else 1
    np.testing.assert_allclose(Frame("m", up).to_world(torch.from_numpy(axis)), (0, 0, 1), atol=0)
    assert np.linalg.det(UP[up]) == pytest.approx(1)


def test_short_and_missing_values():
    values = {name: OURS[name] for name in ("focal_length", "center", "rotation", "translation")}
    found = read_camera({**values, "radial_distortion": [0.1]}, "here")
    assert (found.id, found.radial, found.tangential) == ("", (0.1, 0, 0), (0, 0))
    assert found.intrinsics().tolist() == pytest.approx([*CAMERA.focal, *CAMERA.centre, 0.1, 0, 0, 0, 0])
    for ask in (lambda: found.size, lambda: found.intrinsics("screen")):
        with pytest.raises(InputError, match=r"camera without a name: the size of its pictures is not known"):
            ask()


def test_a_tree_of_cameras():
    tree = {"anna": [OURS, OURS], "ben": {"TakingPhoto 1": (OURS,), "Walk": np.array([OURS, OURS, OURS])}}
    found = read_cameras(tree, "file")
    assert len(found["anna"]) == 2 and {name: len(views) for name, views in found["ben"].items()} == {
        "Photo 1": 1, "Walk": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change, words",
    [
        ({"rotation": 2 * ROTATION}, "rotation is none"),
        ({"rotation": ROTATION * [[1], [1], [-1]]}, "or it is a mirror"),
        ({"rotation": np.zeros((3, 3))}, "rotation is none"),
        ({"rotation": np.eye(4)}, "expected finite numbers of shape (3, 3)"),
        ({"rotation": np.full((3, 3), np.nan)}, "rotation is [[nan"),
        ({"rotation": None}, "rotation is missing"),
        ({"translation": None}, "translation is missing"),
        ({"translation": 1000 * OURS["translation"]}, "metres from the origin: in millimetres?"),
        (
            {"focal_length": (2.29, 2.29), "center": (0, 0)},
            "focal_length is [2.29, 2.29], center [0.0, 0.0]; expected pix",
        ),
        ({"focal_length": 1100}, "focal_length is 1100.0; expected finite numbers of shape (2,)"),
        ({"focal_length": "wide"}, "focal_length is 'wide'; expected numbers (2,)"),
        ({"center": None}, "center is missing"),
        ({"size": (1920,)}, "size is [1920.0]"),
        ({"size": (1, 1)}, "size is (1, 1); expected width and height in pixels"),
        ({"size": (1920, 0)}, "size is (1920, 0); expected"),
        ({"size": (1e30, 1e30)}, "expected width and height in pixels"),
        ({"focal_length": (1e30, 1e30)}, "expected pixels"),
        ({"center": (-1e8, 0)}, "expected pixels"),
        ({"rotation": ROTATION + 1j}, "expected numbers (3, 3)"),
        ({"radial_distortion": (np.inf,)}, "radial_distortion is [inf]; expected finite numbers"),
        ({"size": (-5, 3)}, "expected width and height in pixels"),
        ({"radial_distortion": (1, 2, 3, 4)}, "radial_distortion has 4 numbers; expected k1, k2, k3"),
        ({"tangential_distortion": (1,)}, "tangential_distortion is [1.0]"),
    ],
)
def test_what_is_no_camera(change, words):
    with pytest.raises(InputError, match=rf"^here.*{re.escape(words)}") as caught:
        read_camera({**OURS, **change}, "here")
    assert "\n" not in str(caught.value)


def test_what_is_no_tree():
    for tree, words in (
        (np.zeros(3), "cameras is no dictionary of subject"),
        ({"anna": OURS["focal_length"]}, "cameras of subject anna, view 0 is a float; expected a dictionary"),
        ({"anna": []}, r"cameras of subject anna: found \[\]; expected a list"),
        ({"anna": {"walk": 5}}, "cameras of subject anna, action walk: found 5; expected a list"),
        ({"anna": [{**OURS, "orientation": (1, 1, 1, 1), "rotation": ROTATION}, LENS]}, "view 1 has neither rotation"),
        ({"anna": [{**LENS, "orientation": (1, 1, 1, 1), "position": PLACE}]}, "view 0: orientation is no rotation"),
    ):
        with pytest.raises(InputError, match=f"^file: .*{words}|^file: {words}"):
            read_cameras(tree, "file")
