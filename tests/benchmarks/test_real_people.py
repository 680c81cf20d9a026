"""Triangulation of people in calibrated cameras, who is who, and the scores of exact and flat poses."""

import numpy as np
import pytest

from benchmarks import real_people, real_people_truth
from common.errors import InputError
from common.video import blazepose

RNG = np.random.default_rng(0)


def camera(angle: float) -> real_people_truth.CalibratedCamera:
    """6 m away, looking at the origin."""
    sin, cos = np.sin(angle), np.cos(angle)
    rotation = np.array(((cos, sin, 0), (0, 0, -1), (-sin, cos, 0)))  # x right, y down, z forward
    return real_people_truth.CalibratedCamera(
        rotation, -6 * rotation[2], np.array((1000.0, 1000)), np.array((540.0, 960)), np.array((-0.05, 0.01, 0)),
        np.array((0.001, -0.002)),
    )  # fmt: skip


CAMERAS = [camera(angle) for angle in (0, 1.2, 2.5, 4)]


def pixels(world: np.ndarray, one: real_people_truth.CalibratedCamera) -> np.ndarray:
    """(..., 3) -> (..., 3: x, y, confidence), with Brown's distortion."""
    there = one.see(world)
    x, y = np.moveaxis(there[..., :2] / there[..., 2:], -1, 0)
    r2, (p1, p2) = x * x + y * y, one.tangential
    scale = 1 + r2 * (one.radial[0] + r2 * (one.radial[1] + r2 * one.radial[2]))
    bent = (x * scale + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * scale + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y)
    return np.concatenate((np.stack(bent, -1) * one.focal + one.centre, np.ones((*x.shape, 1))), -1)


def test_points_come_back_though_a_camera_is_wrong():
    world = RNG.normal(0, 0.5, (20, 12, 3))
    points = np.stack([pixels(world, one) for one in CAMERAS])
    found, errors = real_people_truth.triangulate(points, CAMERAS)
    np.testing.assert_allclose(found, world, atol=1e-4)
    assert errors.max() < 0.1
    points[1, :, 3, :2] += 150
    points[2, 5] = np.nan
    found, errors = real_people_truth.triangulate(points, CAMERAS)
    assert np.linalg.norm(found - world, axis=-1).max() < 0.01 and np.isnan(errors[2, 5]).all()
    points[1:, 7] = np.nan
    assert np.isnan(real_people_truth.triangulate(points, CAMERAS)[0][7]).all()


def test_the_same_people_are_where_their_rays_meet():
    people = [RNG.normal(0, 0.5, (20, 12, 3)) + place for place in ((1, 0, 0), (-1, 0.5, 0))]
    seen = [[pixels(person, one) for person in people] for one in CAMERAS]
    seen[1].reverse()
    seen[3].reverse()
    assert real_people_truth.same_people(seen, CAMERAS) == [(0, 1, 0, 1), (1, 0, 1, 0)]


def test_a_calibration_is_read(tmp_path):
    values = {f"r{i}{j}": float(i == j) for i in (1, 2, 3) for j in (1, 2, 3)} | {"x": 1000, "y": 2000, "z": 3000}
    inside = {"focalLengthU": 64000, "focalLengthV": 64000, "centerPointU": 6400, "centerPointV": 12800}
    inside |= dict.fromkeys((*real_people_truth._RADIAL, *real_people_truth._TANGENTIAL), 0.64)
    lines = []
    for tag, items in (("transform", values), ("intrinsic", inside)):
        lines.append(f"<{tag} " + " ".join(f'{name}="{value}"' for name, value in items.items()) + "/>")
    text = "".join(lines)
    (tmp_path / "c.xml").write_text(f"<c><camera>{text}</camera></c>")
    (one,) = real_people_truth.read_calibration(tmp_path / "c.xml")
    np.testing.assert_allclose(one.see(np.array((1.0, 2, 2))), (0, 0, 1))  # looks along -z
    assert one.focal.tolist() == [1000, 1000] and one.centre.tolist() == [100, 200] and one.radial[0] == 0.01
    for bad in ("<c", "<c><camera/></c>"):
        (tmp_path / "c.xml").write_text(bad)
        with pytest.raises(InputError, match="expected Qualisys"):
            real_people_truth.read_calibration(tmp_path / "c.xml")


def test_scores_of_all_cameras(monkeypatch):
    """The detector's 3D is exact here, at twice its size; "no depth" is not."""
    world = np.zeros((8, blazepose.POINTS, 3))
    world[:] = RNG.normal(0, 0.4, world.shape)
    cameras = [
        real_people.Seen(pixels(world, one), 2 * one.see(world), (1080, 1920), one, n) for n, one in enumerate(CAMERAS)
    ]
    table = real_people.rows_of([cameras], real_people.options().parse_args([]), None)
    own, none = (np.array(table[row]) for row in ("the detector's own 3D", "no depth"))
    own, none = own[:, 0], none[:, 0]
    assert own.shape == (4, 3) and (own[:, 0] > 100).all()
    np.testing.assert_allclose(own[:, 1:], 0, atol=0.5)
    assert (none[:, 2] > 50).all()
    assert "found in 100% 100% 100% 100%" in real_people.worth([cameras])
