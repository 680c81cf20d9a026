import numpy as np
import pytest
from bvh import Bvh
from pygltflib import GLTF2

from common.mocap.bvh import read_bvh
from common.skeleton import H36M_17
from common.video import gltf, rig
from common.video.bvh import write_bvh
from common.video.tables import write_csv, write_trc
from tests.motion_files import person


@pytest.fixture(scope="module")
def clip():
    """A person of constant bones who walks away, (T, 17, 3), metres, z up."""
    poses = person()
    return poses + np.linspace(0, 1, len(poses))[:, None, None] * (0.3, 1.0, 0.0)


def values(file: GLTF2, number: int) -> np.ndarray:
    accessor = file.accessors[number]
    view = file.bufferViews[accessor.bufferView]
    shape = {"SCALAR": (), "VEC3": (3,), "VEC4": (4,), "MAT4": (4, 4)}[accessor.type]
    kind = {5126: "<f4", 5123: "<u2"}[accessor.componentType]
    count = accessor.count * int(np.prod(shape))
    flat = np.frombuffer(file.binary_blob(), kind, count, view.byteOffset)
    return flat.reshape(accessor.count, *shape).astype(float)


def rotation(q: np.ndarray) -> np.ndarray:
    """(T, 4), x y z w -> (T, 3, 3), as the specification of quaternions has it: v + 2 u x (u x v + w v)."""
    u, w = q[:, None, :3], q[:, None, 3:]
    columns = np.eye(3)[None]
    return np.swapaxes(columns + 2 * np.cross(u, np.cross(u, columns) + w * columns), 1, 2)


def played(file: GLTF2, skin: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, rotations (T, N, 3, 3) and places (T, N, 3) of the joints in the world, y up."""
    animation = file.animations[0]
    moves = {(c.target.node, c.target.path): values(file, animation.samplers[c.sampler].output)
             for c in animation.channels}  # fmt: skip
    joints = file.skins[skin].joints
    turns, places = {}, {}

    def visit(node: int, turn, place):
        local = moves.get((node, "translation"), np.array(file.nodes[node].translation)[None])
        place = place + (turn @ local[..., None])[..., 0]
        turn = turn @ rotation(moves[node, "rotation"])
        turns[node], places[node] = turn, place
        for child in file.nodes[node].children or ():
            visit(child, turn, place)

    visit(joints[0], np.eye(3)[None], np.zeros((1, 3)))
    names = [file.nodes[j].name for j in joints]
    return names, np.stack([turns[j] for j in joints], 1), np.stack([places[j] for j in joints], 1)


def z_up(points: np.ndarray) -> np.ndarray:
    return np.stack((points[..., 0], -points[..., 2], points[..., 1]), -1)


@pytest.mark.parametrize("bones", rig.BONES)
def test_a_glb_moves_as_the_poses(clip, bones, tmp_path):
    times = np.arange(len(clip)) / 50
    gltf.write_glb(tmp_path / "clip.glb", clip, times, bones)
    file = GLTF2().load(str(tmp_path / "clip.glb"))
    names, _, places = played(file)
    assert tuple(names) == rig.BONES[bones]
    for i, (_, _, joint, _) in enumerate(rig.RIG):
        away = np.linalg.norm(z_up(places[:, i]) - clip[:, H36M_17.index(joint)], axis=-1).max()
        assert away < (0.001 if joint == "hip" else 0.01), joint
    np.testing.assert_allclose(values(file, file.animations[0].samplers[0].input), times, atol=1e-6)


def test_several_people_in_one_file(clip, tmp_path):
    """The second comes later, for fewer frames, elsewhere."""
    times = np.arange(len(clip)) / 50
    other = clip[5:] + (2, 1, 0)
    gltf.write_people(tmp_path / "two.glb", [(clip, times), (other, times[5:])])
    file = GLTF2().load(str(tmp_path / "two.glb"))
    for skin, wanted in enumerate((clip, other)):
        names, _, places = played(file, skin)
        assert all(name.endswith(" 2") == bool(skin) for name in names)
        for i, (_, _, joint, _) in enumerate(rig.RIG):
            away = np.linalg.norm(z_up(places[:, i]) - wanted[:, H36M_17.index(joint)], axis=-1).max()
            assert away < (0.001 if joint == "hip" else 0.01), joint
    assert [node.name for node in file.nodes if node.mesh is not None] == ["person", "person 2"]


def test_the_figure_is_around_the_bones_and_faces_outside(clip, tmp_path):
    gltf.write_glb(tmp_path / "clip.glb", clip, np.arange(len(clip)) / 50)
    file = GLTF2().load(str(tmp_path / "clip.glb"))
    _, turns, places = played(file)
    inverse = np.swapaxes(values(file, file.skins[0].inverseBindMatrices), 1, 2)
    low, volume, sides = np.inf, [], []
    for primitive in file.meshes[0].primitives:
        points = values(file, primitive.attributes.POSITION)
        joint = values(file, primitive.attributes.JOINTS_0)[:, 0].astype(int)
        bound = points + inverse[joint, :3, 3]
        skinned = z_up((turns[0][joint] @ bound[..., None])[..., 0] + places[0][joint])
        low = min(low, skinned[:, 2].min())
        corners = points[values(file, primitive.indices).astype(int).reshape(-1, 3)]
        volume.append((corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum() / 6)
        sides.append(skinned.mean(0))
        nearest = np.linalg.norm(skinned[:, None] - clip[0], axis=-1).min(1)
        assert nearest.max() < 0.3
    assert min(volume) > 0.003 and sum(volume) < 0.2  # cubic metres: people have 0.07
    left = clip[0, H36M_17.index("left shoulder")] - clip[0, H36M_17.index("right shoulder")]
    assert (sides[0] - sides[1]) @ left > 0
    assert abs(low - clip[0, :, 2].min()) < 0.15


def test_a_capsule_is_round():
    points, triangles = gltf.capsule(np.zeros(3), np.array((0, 1.0, 0)), 0.1)
    assert len(np.unique(triangles)) == len(points)
    np.testing.assert_allclose((points.min(0), points.max(0)), ((-0.1, -0.1, -0.1), (0.1, 1.1, 0.1)), atol=0.02)


@pytest.mark.parametrize("bones", rig.BONES)
def test_bvh_has_the_names_asked_for_and_moves_alike(clip, bones, tmp_path):
    write_bvh(tmp_path / "clip.bvh", clip, 50, bones)
    other = Bvh((tmp_path / "clip.bvh").read_text())
    joints = [name for i, name in enumerate(rig.BONES[bones]) if i != rig.END]
    assert sorted(other.get_joints_names()) == sorted(joints) and other.nframes == len(clip)
    hips = [other.frame_joint_channels(t, joints[0], ["Xposition", "Yposition", "Zposition"]) for t in (0, 9)]
    np.testing.assert_allclose(z_up(np.array(hips)), clip[[0, 9], 0], atol=1e-3)
    motion = read_bvh(tmp_path / "clip.bvh")
    for i, (_, _, joint, _) in enumerate(rig.RIG):
        if i != rig.END:
            place = z_up(motion.positions[:, motion.joints.index(rig.BONES[bones][i])])
            np.testing.assert_allclose(place, clip[:, H36M_17.index(joint)], atol=1e-3)


def test_tables_hold_the_poses(clip, tmp_path):
    times = np.arange(len(clip)) / 50
    write_csv(tmp_path / "clip.csv", clip, tuple(f"a,{i}" for i in range(len(clip))), times)
    found = np.genfromtxt((tmp_path / "clip.csv").read_text().replace('"a,', '"a').splitlines(), delimiter=",",
                          skip_header=1)  # fmt: skip
    np.testing.assert_allclose(found[:, 1], times)
    np.testing.assert_allclose(found[:, 2:].reshape(clip.shape), clip, atol=1e-5)
    write_trc(tmp_path / "clip.trc", clip, 50, times)
    lines = (tmp_path / "clip.trc").read_text().splitlines()
    assert lines[2].split("\t") == ["50", "50", str(len(clip)), "17", "m", "50", "1", str(len(clip))]
    assert lines[3].split("\t")[2::3][:2] == ["hip", "right_hip"]
    found = np.array([line.split("\t") for line in lines[6:]], dtype=float)
    np.testing.assert_allclose(z_up(found[:, 2:].reshape(clip.shape)), clip, atol=1e-5)
