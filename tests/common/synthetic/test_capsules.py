"""The renderer against spheres and cones whose pictures are known, and against its own figures."""

import numpy as np
import pytest
import torch

from common.camera import h36m_cameras, project
from common.skeleton import H36M_17
from common.synthetic.capsules import FAR, Capsules, Light, View, draw
from common.synthetic.clutter import make_room, obstacles
from common.synthetic.figure import MATERIALS, body_size, directions, dress, make_look, parts, visible_joints
from tests.tiny_dataset import tiny_poses

SIDE = 64
FRONT = Light(np.array((0.0, 0.0, -1.0)), ambient=1.0, diffuse=0.0)


def capsules(*rows, colours=None) -> Capsules:
    """Capsules from rows (a, b, radius of a, radius of b)."""
    ends = np.array([(a, b) for a, b, *_ in rows], np.float32)
    radii = np.array([sizes for _, _, *sizes in rows], np.float32)
    paint = np.ones((len(rows), 2, 3), np.float32) if colours is None else np.array(colours, np.float32)
    return Capsules(ends, radii, ends, paint, np.full(len(rows), 9, np.float32), np.zeros(len(rows), np.float32))


@pytest.fixture
def standing():
    """A person in front of a level camera: joints (17, 3), facing it, and the view."""
    world = tiny_poses(1, ("S1",), ("Walking",), H36M_17)["S1"]["Walking"][0].astype(np.float64)
    left = world[4] - world[1]
    forward = np.cross(left / np.linalg.norm(left), (0, 0, 1))
    # x right, y down, z forward: the person looks at the camera, so forward is -z and left is to the right
    frame = np.stack((np.cross((0, 0, 1), forward), (0, 0, -1), -forward))
    joints = (world - world[0]) @ frame.T + (0, 0, 5)
    lens = np.array((300.0, 300.0, 63.5, 63.5, 0, 0, 0, 0, 0))
    return joints, View(lens, np.eye(2, 3), 5.0)


def test_a_sphere_covers_its_disc_and_is_nearest_in_its_middle():
    layer = draw(capsules(((30, 34, 7), (30, 34, 7), 10, 10)), FRONT, SIDE, SIDE)
    assert layer.cover.sum() == pytest.approx(np.pi * 100, rel=0.03)
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(x - 30, y - 34)
    cover = np.zeros((SIDE, SIDE))
    cover[layer.box] = layer.cover
    assert (cover[distance < 8.5] == 1).all() and (cover[distance > 12] == 0).all()
    assert ((layer.cover > 0) & (layer.cover < 1)).any()  # smooth edges
    assert layer.depth_at(np.array([(30.0, 34.0), (36.0, 34.0)])) == pytest.approx((-3, 7 - 8), abs=0.35)
    assert layer.depth_at(np.array([(2.0, 2.0), (-1.0, 5.0)])) == pytest.approx((FAR, np.nan), nan_ok=True)


@pytest.mark.parametrize("end", [(44, 40, 0), (44, 40, 30), (24, 50, -25), (21, 20, 40), (20, 20, -15)])
@pytest.mark.parametrize("radii", [(8, 8), (9, 4), (3, 7)])
def test_a_capsule_is_the_hull_of_its_spheres(end, radii):
    start = np.array((20, 20, 5))
    layer = draw(capsules((start, end, *radii)), FRONT, SIDE, SIDE)
    share = np.linspace(0, 1, 400)[:, None, None]
    y, x = (np.mgrid[: 2 * SIDE, : 2 * SIDE] - 0.5) / 2
    reach = np.subtract(end, start) + ((0.25, 0, 0) if end[:2] == (20, 20) else (0, 0, 0))  # seen end on: half a sample
    limit = 0.95 * np.hypot(*reach[:2])
    change = np.clip(radii[1] - radii[0], -limit, limit)  # seen end on, the taper is taken out
    centre, radius = start + share[..., None] * reach, np.mean(radii) + (share - 0.5) * change
    inside = radius**2 - (x - centre[..., 0]) ** 2 - (y - centre[..., 1]) ** 2
    expected = np.where(inside >= 0, centre[..., 2] - np.sqrt(inside.clip(0)), FAR).min(0)
    depth = layer.depth_at(np.stack((x, y), -1).reshape(-1, 2)).reshape(x.shape)
    both = (expected < FAR) & (depth < FAR)
    assert ((expected < FAR) != (depth < FAR)).mean() < 0.002  # samples on the very edge
    error = np.abs(expected - depth)[both]
    assert np.median(error) < 0.02 and np.quantile(error, 0.97) < 0.8  # steep at the outline, more so end on


def test_the_nearer_capsule_is_seen_and_light_comes_from_its_side():
    red, blue = ((1, 0, 0), (1, 0, 0)), ((0, 0, 1), (0, 0, 1))
    far, near = ((10, 32, 20), (54, 32, 20), 6, 6), ((32, 10, -20), (32, 54, -20), 6, 6)
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    for order, colours in (((far, near), (red, blue)), ((near, far), (blue, red))):
        picture = draw(capsules(*order, colours=colours), FRONT, SIDE, SIDE).over(black)
        assert picture[32, 32].tolist() == [0, 0, 255] and picture[32, 14].tolist() == [255, 0, 0]
    left = Light(np.array((-0.8, 0.0, -0.6)), 0.2, 0.7)
    picture = draw(capsules(near), left, SIDE, SIDE).over(black)
    assert picture[32, 29, 0] > picture[32, 35, 0] + 40


def test_nothing_to_draw_leaves_the_background():
    background = make_room(SIDE, SIDE, 3)
    layer = draw(capsules(((900, 900, 0), (950, 900, 0), 5, 5)), FRONT, SIDE, SIDE)
    assert not layer.cover.any() and (layer.over(background) == background).all()


def test_the_body_has_a_front_and_two_sides(standing):
    joints, _ = standing
    pelvis_front, pelvis_left, up, chest_front, _, _, head_front, _, _, left_toes, right_toes = directions(joints)
    for front in (pelvis_front, chest_front, head_front, left_toes, right_toes):
        assert front[2] < -0.8  # to the camera
    assert pelvis_left @ (joints[4] - joints[1]) > 0.1 and up[1] < -0.9
    table = parts()
    assert table.ends.shape == (2 * len(table.radii), 17 + 11)
    points = (table.ends @ np.concatenate((joints, body_size(joints) * directions(joints)))).reshape(-1, 2, 3)
    eyes = points[table.material == MATERIALS.index("eye")].mean((0, 1))
    hair = points[table.material == MATERIALS.index("hair")].mean((0, 1))
    assert eyes[2] < hair[2] - 0.05  # seen from the front, the eyes are before the hair
    assert np.linalg.norm(points - joints[7], axis=-1).max() < 1.5


def test_a_batch_of_poses_has_the_directions_of_each():
    poses = np.random.default_rng(0).normal(size=(3, 17, 3))
    assert directions(poses) == pytest.approx(np.stack([directions(pose) for pose in poses]))


def test_visibility_follows_the_z_buffer(standing):
    joints, view = standing
    placed = view.project(joints)
    look = make_look(1)
    person = dress(joints, look, view)
    open_view = draw(person, FRONT, 128, 128)
    seen = visible_joints(open_view, placed[:, :2], placed[:, 2], view, joints)
    assert seen.all()
    before = capsules((placed[2] - (9, 0, 60), placed[2] + (9, 0, -60), 8, 8))
    seen = visible_joints(draw(person + before, FRONT, 128, 128), placed[:, :2], placed[:, 2], view, joints)
    assert not seen[2] and seen[[0, 7, 8, 11, 14]].all()
    behind = capsules((placed[2] - (9, 0, -60), placed[2] + (9, 0, 60), 8, 8))
    assert visible_joints(draw(person + behind, FRONT, 128, 128), placed[:, :2], placed[:, 2], view, joints).all()
    moved = View(view.intrinsics, np.array(((1.0, 0, -60), (0, 1.0, 0))), 5.0)
    placed = moved.project(joints)
    seen = visible_joints(draw(dress(joints, look, moved), FRONT, 128, 128), placed[:, :2], placed[:, 2], moved, joints)
    assert (seen == (placed[:, 0] >= -0.5)).all() and not seen.all()  # the right side left the picture


def test_the_view_is_the_cameras_projection():
    camera = h36m_cameras()["S5"][2]
    points = np.random.default_rng(0).uniform((-1, -1, 4), (1, 1, 6), (20, 3))
    matrix = np.array(((0.0, 0.5, 3.0), (-0.5, 0.0, 40.0)))
    view = View(camera.intrinsics().numpy(), matrix, 5.0)
    pixels = project(torch.from_numpy(points).float(), camera.intrinsics()).numpy()
    placed = view.project(points)
    assert placed[:, :2] == pytest.approx(pixels @ matrix[:, :2].T + matrix[:, 2], abs=1e-3)
    assert placed[:, 2] == pytest.approx((points[:, 2] - 5) * view.focal / 5, abs=1e-3)
    assert view.focal == pytest.approx(0.5 * np.mean(camera.focal), rel=1e-3)


def test_looks_and_rooms_depend_on_their_seed_alone():
    first, again, other = make_look(0, 5), make_look(0, 5), make_look(0, 6)
    assert (first.colours == again.colours).all() and not np.allclose(first.colours, other.colours)
    assert (make_room(40, 50, 1) == make_room(40, 50, 1)).all()
    assert (make_room(40, 50, 1) != make_room(40, 50, 2)).any()
    assert make_room(40, 50, 1).shape == (40, 50, 3) and make_room(40, 50, 1).std() > 10


def test_obstacles_stand_in_front():
    drawn = [obstacles(np.random.default_rng(i), np.array((50.0, 50.0)), 80.0) for i in range(60)]
    there = [things for things in drawn if things is not None]
    assert 15 < len(there) < 45
    assert all((things.ends[..., 2] <= -40).all() for things in there)
    assert obstacles(np.random.default_rng(0), np.zeros(2), 80.0, share=0.0) is None
