"""2D detectors: people followed through a scene whose networks are replaced by the truth; rtmlib's adapter."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from common.video import blazepose, detect, follow
from common.video.blazepose import Person, Region, Sight

RNG = np.random.default_rng(0)
SHAPES = RNG.normal(0, 0.3, (3, 33, 2))  # of three bodies, in heights; their hips at the origin
SHAPES[:, 23:25] = 0


class Scene(SimpleNamespace):
    """A picture: bodies (x, y, height, shape)."""

    size = (1000, 600)


def points_of(body) -> np.ndarray:
    x, y, height, shape = body
    return np.column_stack((SHAPES[shape] * height + (x, y), np.ones(33)))


@pytest.fixture
def scene(monkeypatch):
    """The networks know the truth; `looks` are the boxes that the detector was shown."""
    looks = []

    def look(_, image, box=None):
        x, y, width, height = box or (0, 0, *image.size)
        looks.append(box)
        inside = [b for b in image.bodies if x < b[0] < x + width and y < b[1] < y + height]
        return [
            Sight(0.9, np.array((b[0] - 9, b[1] - 9, b[0] + 9, b[1] + 9)), Region(b[0], b[1], b[2], 0)) for b in inside
        ]

    def landmarks(_, image, region, others=()):
        """Whose hips are nearest; where somebody of shape 1 is near, that one, unless painted over."""
        mask, painted = np.zeros((256, 256), bool), [other.world[0, 0] for other in others]
        away = {
            i: np.hypot(b[0] - region.x, b[1] - region.y) for i, b in enumerate(image.bodies) if b[3] not in painted
        }
        near = [i for i in away if away[i] <= region.half / 2]
        if not near:
            return Person(np.zeros((33, 3)), np.zeros((33, 3)), 0.1, region, region, mask)
        body = image.bodies[min(near, key=lambda i: (image.bodies[i][3] != 1, away[i]))]
        return Person(points_of(body), np.full((33, 3), body[3]), 1.0, Region(*body[:3], 0), region, mask)

    monkeypatch.setattr(blazepose, "look", look)
    monkeypatch.setattr(blazepose, "landmarks", landmarks)
    return looks


def walk(t: int, *gone: int) -> Scene:
    """Two people who walk towards and past each other, 40 pixels apart in depth, in 40 frames."""
    bodies = [(200 + 15 * t, 300, 150, 0), (800 - 15 * t, 340, 180, 1)]
    return Scene(bodies=[body for body in bodies if body[3] not in gone])


def test_one_person_the_largest_is_followed_without_looking_again(scene):
    follower = detect.Followed(None, 1)
    poses = [follower(walk(t)) for t in range(10)]
    assert all(len(people) == 1 and people[0].shape == (33, 6) for people in poses)
    np.testing.assert_allclose([people[0][23, 0] for people in poses], 800 - 15 * np.arange(10))
    assert poses[0][0][0, 3] == 1  # the detector's own 3D is kept
    first = len(scene)
    assert first > 1 and follower(walk(10)) and len(scene) == first + 1  # only who comes near is looked for


def test_one_person_stays_who_it_is(scene):
    """Person 1 meets 0 and is hidden for 8 pictures, in which 2 is the only one to be seen."""
    follower, poses = detect.Followed(None, 1), []
    for t in range(40):
        picture = walk(t, *([0, 1] * (24 <= t < 32)))
        picture.bodies.append((900, 120, 100, 2))
        poses.append(follower(picture))
    first = follow.follow(poses, np.arange(40) / 25)[0]
    assert (first.points[:, 0, 3] == 1).all()
    assert set(range(40)) - set(first.rows.tolist()) == set(range(24, 32))


def test_who_overlaps_is_painted_over(scene):
    """The network sees person 1 in both regions; only so is 0 kept."""
    follower = detect.Followed(None, 2)
    near = [Scene(bodies=[(200 + 15 * min(t, 15), 300, 150, 0), (440, 300, 150, 1)]) for t in range(30)]
    assert [sorted(person[0, 3] for person in follower(picture)) for picture in near] == [[0, 1]] * 30


def test_a_body_on_another_is_nobody_new():
    mask = np.zeros((256, 256), bool)
    mask[64:192, 64:192] = True
    one, other, beside = (Person(None, None, 1.0, None, Region(x, 50, 40, 0), mask) for x in (50, 65, 75))
    assert detect.covered(one, other) and not detect.covered(one, beside)


def test_people_cross_and_keep_who_they_are(scene):
    follower = detect.Followed(None, 20)
    tracks = follow.follow([follower(walk(t)) for t in range(40)], np.arange(40) / 25)
    assert [len(track.rows) for track in tracks[:2]] == [40, 40]
    for track, shape in zip(tracks, (1, 0), strict=False):
        assert (track.points[:, 0, 3] == shape).all()


def test_who_is_lost_is_looked_for(scene):
    """Person 0 is hidden for some frames, person 2 comes later."""
    follower = detect.Followed(None, 20)
    counts = [len(follower(walk(t, *([0] * (4 <= t < 8))))) for t in range(10)]
    assert counts == [2] * 4 + [1] * 4 + [2] * 2
    late = walk(10)
    late.bodies.append((500, 100, 60, 2))
    assert max(len(follower(late)) for _ in range(10)) == 3


def test_most_and_a_box_limit_who_is_found(scene):
    assert len(detect.Followed(None, 1)(walk(0))) == 1
    (person,) = detect.Followed(None, 20, (0, 0, 500, 600))(walk(0))
    assert person[23, 0] == 200
    assert all(box[0] + box[2] <= 500 for box in scene[-3:])


def test_two_regions_on_one_person_are_one():
    one, other = (
        Person(points_of((300, 300, 150, s)), np.zeros((33, 3)), 1.0, Region(300, 300, 150, 0)) for s in (0, 1)
    )
    mixed = one._replace(points=np.concatenate((one.points[:20], other.points[20:])))
    assert detect.distinct([one, other, mixed, one]) == [one, other]


@pytest.mark.parametrize("box", [(0, 0, 1080, 1920), (100, 50, 640, 480), (0, 0, 300, 300)])
def test_squares_cover_a_box(box):
    x, y, width, height = box
    seen = np.zeros((height, width), int)
    for left, top, side, _ in detect.squares(box):
        assert left >= x and top >= y and left + side <= x + width + 1e-6 and top + side <= y + height + 1e-6
        seen[int(top - y) : round(top - y + side), int(left - x) : round(left - x + side)] += 1
    assert seen.min() >= 1


def test_nobody_in_one_line(scene):
    empty = detect.Detector(detect.Followed(None, 1), blazepose.LAYOUT)
    with pytest.raises(InputError, match="a.mp4: no person found in 3 pictures of 1000 x 600; give --box"):
        detect.find_in_video(empty, [walk(0, 0, 1)] * 3, Path("a.mp4"))
    with pytest.raises(InputError, match="1 picture of 1000 x 600 inside --box 1,2,30,40"):
        detect.find_in_video(empty, [walk(0, 0, 1)], Path("a.mp4"), (1, 2, 30, 40))
    raw = detect.find_in_video(empty, [walk(t) for t in range(3)], Path("a.mp4"))
    assert (raw.layout, raw.size, raw.frames) == ("blazepose33", (1000, 600), ["0", "1", "2"])
    assert raw.people[0][0].shape == (33, 6)  # with its own 3D


def test_rtmlib(monkeypatch):
    """Its pictures are blue first; its people are sorted by size; what is wrong is told in one line."""
    seen = []

    class Body:
        def __init__(self, mode, backend, device):
            pass

        def __call__(self, picture):
            seen.append(picture)
            points = np.stack([np.full((17, 2), 5.0), np.arange(34.0).reshape(17, 2)])
            return points, np.full((2, 17), 0.5)

    module = ModuleType("rtmlib")
    module.Body = Body
    monkeypatch.setitem(sys.modules, "rtmlib", module)
    detector = detect.rtmlib_detector(None)
    people = detector.people(Image.new("RGB", (4, 3), (255, 0, 0)))
    assert seen[0].shape == (3, 4, 3) and seen[0][0, 0].tolist() == [0, 0, 255]
    assert detector.layout == "coco17" and [pose.shape for pose in people] == [(17, 3)] * 2 and people[0][1, 0] == 2
    assert len(detect.rtmlib_detector(1).people(Image.new("RGB", (4, 3)))) == 1
    module.Body = lambda **_: 1 / 0
    with pytest.raises(InputError, match="rtmlib cannot load its weights"):
        detect.rtmlib_detector()
    monkeypatch.setitem(sys.modules, "rtmlib", None)
    with pytest.raises(InputError, match="pip install rtmlib"):
        detect.rtmlib_detector()
