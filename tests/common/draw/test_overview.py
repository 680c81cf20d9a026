"""Overviews: sheets of shots and plots of the room, as pictures."""

import numpy as np
from PIL import Image

from common.draw.overview import Pyramid, Shot, _labels, save_room, save_shots
from common.skeleton import H36M_17

POINTS = np.random.default_rng(0).uniform(200, 700, (17, 2))


def test_shots_have_the_shape_of_their_pictures(tmp_path):
    wide = [Shot(POINTS, (1000, 500), "a"), None]
    low = np.array(Image.open(save_shots(tmp_path / "low.png", {"view": wide}, H36M_17)))
    tall = [Shot(POINTS, (500, 1000), "a"), Shot(POINTS + np.nan, None, "$b")]
    high = np.array(Image.open(save_shots(tmp_path / "high.png", {"view": tall}, H36M_17)))
    assert low.shape[1] == high.shape[1] and high.shape[0] - low.shape[0] > 300
    assert (low[:140, -250:] == 255).all()  # nothing where there is no shot


def test_room(tmp_path):
    camera = np.array([(0, -4, 1.5), (-1, -3, 2), (1, -3, 2), (1, -3, 1), (-1, -3, 1)], float)
    person = np.random.default_rng(0).uniform(0, 1.7, (1, 17, 3))
    ways = {f"person {i}": person[0] + (i, 0, 0) for i in range(10)}
    ways["person 0"] = np.insert(ways["person 0"], 3, np.nan, axis=0)
    path = save_room(tmp_path / "room.png", [Pyramid(camera, "0"), Pyramid(camera + 0.1, "0")], ways, person, H36M_17)
    assert Image.open(path).width > 500


def test_cameras_of_one_name_share_a_label_where_they_stand_together():
    """A view of two rooms: its mean place is in neither."""
    camera = np.array([(0, -4, 1.5), (-1, -3, 2), (1, -3, 2), (1, -3, 1), (-1, -3, 1)], float)
    (one, place), (two, far) = _labels([Pyramid(camera + (x, 0, 0), "0") for x in (0, 30, 0.5, 30)])
    assert (one, two) == ("0", "0") and np.allclose(place, (0.25, -3, 1.5)) and np.allclose(far, (30, -3, 1.5))
