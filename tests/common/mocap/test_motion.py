"""Motion capture to Human3.6M's people: joint maps, time, units, axes, floor, cuts, places, names, and the readers."""

import sys
import types

import ezc3d
import numpy as np
import pytest

from common.errors import InputError
from common.mocap import motion as mocap
from common.mocap.acclaim import read_amc
from common.mocap.bvh import read_bvh
from common.mocap.joints import PRESETS, choose_map, h36m_poses, h36m_weights, read_map
from common.mocap.people import action_of, free_name, person_of, seats_of
from common.mocap.read import SMPL_BODY, read_c3d, read_motion
from common.skeleton import H36M_17
from common.synthetic.behaviour import ARENA
from tests.motion_files import person, smpl_rest, write_acclaim, write_clip, write_smpl_model

INDEX = {name: i for i, name in enumerate(H36M_17.joints)}


@pytest.fixture(scope="module")
def walk():
    return person()


# ------------------------------------------------------------ joints


@pytest.mark.parametrize("preset", ["cmu", "mixamo", "lafan1", "3dsmax", "biped", "daz"])
def test_presets_find_the_joints_of_their_files(tmp_path, walk, preset):
    motion = read_bvh(write_clip(tmp_path / "clip.bvh", preset))
    name, wanted = choose_map(motion.joints)
    assert name == preset
    found = mocap.to_z_up(h36m_poses(motion.positions, h36m_weights(motion.joints, wanted, "clip")), "y")
    for joint, i in INDEX.items():
        if (preset, joint) != ("daz", "spine"):  # its spine lies between two joints
            assert found[:, i] == pytest.approx(walk[:, i], abs=2e-5), joint


def test_names_in_any_dress():
    plain = ("Hips", "LeftUpLeg", "LeftLeg", "LeftFoot", "RightUpLeg", "RightLeg", "RightFoot", "Spine", "Neck", "Head")
    plain += ("LeftArm", "LeftForeArm", "LeftHand", "RightArm", "RightForeArm", "RightHand")
    expected = h36m_weights(plain, choose_map(plain)[1], "plain")
    for dress in ("mixamorig:{}", "Robot_{}", "ns:hero:{}", "mixamorig7_{}"):
        joints = tuple(dress.format(name) for name in plain)
        assert np.array_equal(h36m_weights(joints, choose_map(joints)[1], "dressed"), expected), dress
    shouted = tuple(name.upper() for name in plain)
    assert np.array_equal(h36m_weights(shouted, choose_map(shouted)[1], "shouted"), expected)


def test_a_head_whose_end_points_forward_is_put_above_the_neck(walk, caplog):
    """As rigs whose bones lie along x export it; a true head that bows in some frames stays."""
    poses, (thorax, neck, head) = walk.copy(), (INDEX[name] for name in ("thorax", "neck", "head"))
    poses[:, neck] = poses[:, thorax] + (0, 0, 0.1)
    poses[:, head] = poses[:, neck] + (0, 0, 0.15)
    poses[:80, head] = poses[:80, neck] + (0.15, 0, 0)
    assert np.array_equal(h36m_poses(poses, np.eye(17)), poses) and not caplog.text
    poses[:, head] = poses[:, neck] + (0.15, 0, -0.02)
    found = h36m_poses(poses, np.eye(17), "clip.bvh")
    assert found[:, head] == pytest.approx(poses[:, neck] + (0, 0, 0.1))
    assert "clip.bvh: the end of the head lies across the neck, at 98 degrees" in caplog.text


def test_a_head_without_an_end_goes_on_from_the_neck(walk):
    joints = (
        "Hips",
        "Neck",
        "Head",
        "LeftUpLeg",
        "LeftLeg",
        "LeftFoot",
        "RightUpLeg",
        "RightLeg",
        "RightFoot",
        "LeftArm",
    )
    joints += ("LeftForeArm", "LeftHand", "RightArm", "RightForeArm", "RightHand", "Head end")
    order = ["hip", "thorax", "neck"] + [f"{s} {j}" for s in ("left", "right") for j in ("hip", "knee", "foot")]
    order += [f"{s} {j}" for s in ("left", "right") for j in ("shoulder", "elbow", "wrist")] + ["neck"]
    points = walk[:, [INDEX[name] for name in order]]  # the end site lies on the head
    for names, positions in ((joints, points), (joints[:-1], points[:, :-1])):
        poses = h36m_poses(positions, h36m_weights(names, choose_map(names)[1], "clip"))
        assert poses[:, INDEX["head"]] == pytest.approx(2 * walk[:, INDEX["neck"]] - walk[:, INDEX["thorax"]])
        assert poses[:, INDEX["spine"]] == pytest.approx((walk[:, 0] + walk[:, INDEX["thorax"]]) / 2)


def test_a_missing_joint_is_named_with_those_found():
    joints = ("Hips", "LeftUpLeg", "LeftFoot", "RightUpLeg", "RightLeg", "RightFoot", "Neck", "Head", "LeftArm")
    joints += ("LeftForeArm", "LeftHand", "RightArm", "RightForeArm", "RightHand")
    with pytest.raises(InputError) as error:
        h36m_weights(joints, choose_map(joints)[1], "clip.bvh")
    assert "clip.bvh has no joint for left knee (LeftLeg); it has: Hips, LeftUpLeg, LeftFoot" in str(error.value)
    with pytest.raises(InputError, match="unknown preset 'maya'; there are: auto, cmu"):
        choose_map(joints, "maya")


def test_every_preset_names_what_is_needed():
    for name, (wanted, _) in PRESETS.items():
        assert set(wanted) <= set(H36M_17.joints), name
        joints = tuple(dict.fromkeys(part for text in wanted.values() for part in text.split("|")[-1].split("+")))
        assert h36m_weights(joints, wanted, name).sum(1) == pytest.approx(np.ones(17)), name


def test_a_map_of_the_users_own(tmp_path, walk):
    file = tmp_path / "map.yaml"
    limbs = ("hip", "knee", "foot", "shoulder", "elbow", "wrist")
    lines = [f"{side}_{limb}: {side[0]}{limb}" for side in ("left", "right") for limb in limbs]
    file.write_text("\n".join(lines) + "\nHead: [a, B]\n")
    wanted = read_map(file)
    joints = tuple(f"{side[0]}{limb}" for side in ("left", "right") for limb in limbs) + ("a", "b")
    weights = h36m_weights(joints, wanted, "clip")
    assert weights[INDEX["head"], -2:].tolist() == [0.5, 0.5] and weights[0, [0, 6]].tolist() == [0.5, 0.5]
    assert weights.sum(1) == pytest.approx(np.ones(17))


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "is no joint map"),
        ("- a\n", "is no joint map"),
        ("left knie: a\n", "unknown joint 'left knie'; Human3.6M has: hip, right hip"),
        ("left knee: 3\n", "left knee: expected the name of a joint or a list of names, found 3"),
        ("left knee: []\n", "expected the name of a joint"),
        ("a: [\n", "cannot read"),
    ],
)
def test_bad_maps(tmp_path, text, words):
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        read_map(tmp_path / "map.yaml")
    assert words in str(error.value)


def test_acclaim_gives_a_human_body_in_metres(tmp_path):
    motion = read_amc(write_acclaim(tmp_path))
    name, wanted = choose_map(motion.joints)
    assert name == "acclaim"
    poses = mocap.to_z_up(h36m_poses(motion.positions, h36m_weights(motion.joints, wanted, "02")), "y") * motion.unit
    assert mocap.not_human(poses) == []
    lengths = mocap.body_lengths(poses)
    assert lengths["thigh"] == pytest.approx(7.2 * 0.0564, abs=1e-3)
    assert lengths["forearm"] == pytest.approx((3.2 + 1.5) * 0.0564, abs=1e-3)
    assert mocap.find_unit(h36m_poses(motion.positions, h36m_weights(motion.joints, wanted, "02")), "02")[0] == "cmu"


# ------------------------------------------------------------ time, size, axes


@pytest.mark.parametrize("fps", [25, 30, 120, 119.88, 120.0048, 100, 50])
def test_resampling_meets_smooth_motion(fps):
    count = int(4 * fps)
    curve = lambda t: np.stack((np.sin(3 * t), np.cos(2 * t), 0.5 * t), -1)[:, None]  # noqa: E731
    found = mocap.resample(curve(np.arange(count) / fps), fps)
    assert len(found) == pytest.approx((count - 1) / fps * 50 + 1, abs=1)
    error = np.abs(found - curve(np.arange(len(found)) / 50)).max((1, 2))
    assert error[2:-2].max() < 2e-3 and error.max() < 0.02
    if fps in (50, 100):
        assert error.max() < 1e-12


@pytest.mark.parametrize("fps", [0, -1, np.nan, np.inf])
def test_no_rate(fps):
    with pytest.raises(InputError, match="frames per second"):
        mocap.resample(np.zeros((3, 17, 3)), fps)


def test_a_rest_pose_in_front_is_left_out(walk):
    rest = walk[:1].copy()
    rest[:, [INDEX["left elbow"], INDEX["left wrist"], INDEX["right elbow"], INDEX["right wrist"]]] += (0.5, 0, 0.5)
    for scale in (1, 100):
        assert len(mocap.without_rest_pose(scale * np.concatenate((rest, walk)))) == len(walk)
        assert len(mocap.without_rest_pose(scale * walk)) == len(walk)


@pytest.mark.parametrize("name", mocap.UNITS)
def test_units_are_found(walk, name):
    assert mocap.find_unit(walk / mocap.UNITS[name], "clip")[0] == name


def test_what_is_no_size(walk):
    with pytest.raises(InputError, match="clip.bvh: a body of .* units .* of human size in no unit"):
        mocap.find_unit(walk * 1e5, "clip.bvh")


@pytest.mark.parametrize("up", mocap.AXES)
def test_axes_up_are_found_and_turned_without_a_mirror(walk, up):
    """Any rotation that brings z to `up`: brought back, the person stands upright and is no mirror image."""
    axis, sign = mocap.AXES.index(up) % 3, -1 if up.startswith("-") else 1
    basis = np.zeros((3, 3))
    basis[axis, 2] = sign
    basis[(axis + 1) % 3, 0] = 1
    basis[:, 1] = np.cross(basis[:, 2], basis[:, 0])
    moved = walk @ basis.T
    assert mocap.axis_of(mocap.up_vote(moved)) == up
    found = mocap.to_z_up(moved, up)
    assert found[..., 2] == pytest.approx(walk[..., 2]) and not mocap.knees_bend_back(found)
    assert np.linalg.det(mocap.to_z_up(np.eye(3), up)) == pytest.approx(1)


def test_what_is_not_human_is_said(walk):
    assert mocap.not_human(walk) == []
    assert any("height" in words for words in mocap.not_human(walk * 2))
    long_arm = walk.copy()
    long_arm[:, INDEX["left wrist"]] += 0.3 * (walk[:, INDEX["left wrist"]] - walk[:, INDEX["left elbow"]])
    assert [words.split(" 0")[0] for words in mocap.not_human(long_arm)] == ["left forearm"]
    rubber = walk * np.linspace(0.8, 1.2, len(walk))[:, None, None]
    assert any("changes its length" in words for words in mocap.not_human(rubber))


def test_swapped_sides_and_mirror_images_bend_their_knees_back(walk):
    assert not mocap.knees_bend_back(person(action="SittingDown"))  # on the floor, legs crossed
    for poses in (walk, person(action="Sitting")):
        assert not mocap.knees_bend_back(poses)
        assert mocap.knees_bend_back(poses[:, list(H36M_17.mirror)]) and mocap.knees_bend_back(poses * (1, -1, 1))
        assert any("left and right swapped" in words for words in mocap.not_human(poses * (1, -1, 1)))


# ------------------------------------------------------------ place


def test_the_floor(walk):
    kept, lift = mocap.on_floor(walk)
    assert lift == 0 and np.array_equal(kept, walk)
    for offset in (-0.9, 0.4):
        lifted, lift = mocap.on_floor(walk + (0, 0, offset))
        assert lifted[..., 2] == pytest.approx(walk[..., 2], abs=0.06) and lift == pytest.approx(-offset, abs=0.06)


def walker(metres, frames):
    poses = np.repeat(person(1), frames, 0)
    return poses + np.linspace(0, 1, frames)[:, None, None] * (metres * 0.6, metres * 0.8, 0)


def test_long_walks_are_cut_and_stay_in_view():
    poses = walker(10, 700)
    cuts = mocap.pieces(poses)
    assert [piece.start for piece in cuts[1:]] == [piece.stop for piece in cuts[:-1]] and cuts[-1].stop == 700
    assert len(cuts) == 5 and all(piece.stop - piece.start > 50 for piece in cuts)
    for piece in cuts:
        placed = mocap.place(poses[piece], "walk", 0)
        assert (np.hypot(*(placed[:, 0, :2] / ARENA).T) < 1.001).all() and placed.dtype == np.float32
    assert mocap.pieces(walker(1, 100)) == [slice(0, 100)]
    short = mocap.pieces(walker(2.4, 220))
    assert len(short) == 1 and short[0].start == 0 and short[0].stop > 200  # the rest is too short
    assert len(mocap.pieces(walker(0.1, 10))) == 1


def test_places_keep_the_body_and_follow_the_seed(walk):
    placed = mocap.place(walk, "walk", 0)
    distances = lambda poses: np.linalg.norm(poses[:, :, None] - poses[:, None], axis=-1)  # noqa: E731
    assert distances(placed) == pytest.approx(distances(walk), abs=1e-5)
    assert placed[..., 2] == pytest.approx(walk[..., 2], abs=1e-6) and not mocap.knees_bend_back(placed)
    assert np.array_equal(placed, mocap.place(walk, "walk", 0))
    assert not np.allclose(placed, mocap.place(walk, "walk", 1)) and not np.allclose(
        placed, mocap.place(walk, "run", 0)
    )


# ------------------------------------------------------------ names and seats


def test_people_by_folder_name_or_pattern(tmp_path):
    source = tmp_path / "set"
    (source / "a" / "b").mkdir(parents=True)
    cases = {
        "a/b/x.bvh": "a/b",
        "walk1_subject5.bvh": "subject5",
        "02_01.amc": "02",
        "S5_walk.bvh": "S5",
        "run.bvh": "set",
    }
    assert {name: person_of(source / name, source) for name in cases} == cases
    assert person_of(source / "a/b/x_7.bvh", source, r"x_(\d+)") == "7"
    with pytest.raises(InputError, match="finds no person in 'a/b/x.bvh'"):
        person_of(source / "a/b/x.bvh", source, r"x_(\d+)")


@pytest.mark.parametrize(
    "stem, person_name, action",
    [
        ("walk1_subject5", "subject5", "Walk 1"),
        ("walk_fast_02_subject5", "subject5", "WalkFast 2"),
        ("02_01", "02", "Motion 1"),
        ("A1 - Stand_poses", "s1", "A1Stand"),
        ("Walking", "a/b", "Walking"),
        ("01_03_poses", "CMU/01", "Motion 3"),
        ("walk", "walk", "Walk"),
        ("S5_walk", "S5", "Walk"),
        ("0042", "x", "Motion 42"),
        ("run003", "x", "Run 3"),
    ],
)
def test_actions_by_name(stem, person_name, action):
    assert action_of(stem, person_name) == action


def test_free_names():
    assert free_name("Walk", ["Run"]) == "Walk" and free_name("Walk", ["Walk"]) == "Walk 1"
    assert free_name("Walk 2", ["Walk", "Walk 2", "Walk 3"]) == "Walk 4"


def test_seats():
    assert seats_of(["a", "b"], ["b"]) == {"a": ("S1", "S5", "S6", "S7", "S8"), "b": ("S9", "S11")}
    many = seats_of(list("abcdefghij"), ["i", "j"])
    assert many["a"] == ("S1",) and many["f"] == ("S1",) and many["i"] == ("S9",) and many["j"] == ("S11",)
    three = seats_of(["a", "b", "c"], [])
    assert sorted(sum(three.values(), ())) == ["S1", "S5", "S6", "S7", "S8"]
    with pytest.raises(InputError, match="--test names z; the people are: a"):
        seats_of(["a"], ["z"])


# ------------------------------------------------------------ SMPL and C3D


def amass(frames=5):
    rng = np.random.default_rng(3)
    arrays = {
        "poses": rng.normal(0, 0.6, (frames, 156)),
        "betas": rng.normal(size=16),
        "trans": rng.normal(size=(frames, 3)),
    }
    return arrays | {"mocap_framerate": np.array(120.0)}


def rotation(vector):
    """Matrix of axis times angle, by its series."""
    x, y, z = vector
    generator, power, result = np.array(((0, -z, y), (z, 0, -x), (-y, x, 0))), np.eye(3), np.eye(3)
    for k in range(1, 40):
        power = power @ generator / k
        result = result + power
    return result


def test_amass_poses_with_a_model_equal_a_plain_loop(tmp_path):
    directions = write_smpl_model(tmp_path / "model.npz")
    arrays = amass()
    np.savez(tmp_path / "clip.npz", **arrays)
    motion = read_motion(tmp_path / "clip.npz", tmp_path / "model.npz")
    assert motion.joints == SMPL_BODY and motion.fps == 120 and motion.unit == 1
    rest = smpl_rest() + directions[:22] @ arrays["betas"][:4]
    parents = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
    for t in range(5):
        turns, points = [rotation(arrays["poses"][t, :3])], [rest[0] + arrays["trans"][t]]
        for j in range(1, 22):
            points.append(points[parents[j]] + turns[parents[j]] @ (rest[j] - rest[parents[j]]))
            turns.append(turns[parents[j]] @ rotation(arrays["poses"][t, 3 * j : 3 * j + 3]))
        assert motion.positions[t] == pytest.approx(np.array(points), abs=1e-9)


@pytest.mark.parametrize("key, count", [("joints", 22), ("Jtr", 24), ("joints", 52)])
def test_joint_positions_of_smpl(tmp_path, key, count):
    points = np.random.default_rng(0).normal(size=(4, count, 3)).astype(np.float32)
    points[:, :22] = smpl_rest()
    np.savez(tmp_path / "clip.npz", **{key: points, "fps": 30})
    motion = read_motion(tmp_path / "clip.npz")
    assert motion.fps == 30 and motion.positions == pytest.approx(np.repeat(smpl_rest()[None], 4, 0), abs=1e-6)
    name, wanted = choose_map(motion.joints)
    poses = h36m_poses(motion.positions, h36m_weights(motion.joints, wanted, "clip"))
    assert name == "smpl" and mocap.axis_of(mocap.up_vote(poses)) == "y" and mocap.not_human(poses) == []
    assert (poses[0, INDEX["left knee"], 0] > 0).all() and poses[0, INDEX["head"], 1] > 0.45


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda a: {"betas": a["betas"]}, "has betas; expected joint positions"),
        (lambda a: {"joints": np.zeros((4, 17, 3))}, "joints has shape (4, 17, 3)"),
        (lambda a: {"joints": np.full((4, 22, 3), np.nan)}, "NaN or infinity"),
        (lambda a: {"joints": np.full((4, 22, 3), "x")}, "expected numbers"),
        (lambda a: a | {"poses": a["poses"][:, :60]}, "poses has shape (5, 60)"),
        (lambda a: a | {"trans": a["trans"][:3]}, "trans has shape (3, 3); expected (5, 3)"),
    ],
)
def test_bad_npz(tmp_path, change, words):
    write_smpl_model(tmp_path / "model.npz")
    np.savez(tmp_path / "clip.npz", **change(amass()))
    with pytest.raises(InputError) as error:
        read_motion(tmp_path / "clip.npz", tmp_path / "model.npz")
    assert words in str(error.value) and "clip.npz" in str(error.value)


def test_poses_without_a_model_say_what_is_expected(tmp_path):
    np.savez(tmp_path / "clip.npz", **amass())
    with pytest.raises(InputError) as error:
        read_motion(tmp_path / "clip.npz")
    for words in ("--smpl-model", "J_regressor", "`joints` (N, 22, 24 or 52, 3)"):
        assert words in str(error.value)
    np.savez(tmp_path / "model.npz", J_regressor=np.eye(10), v_template=np.zeros((10, 3)))
    with pytest.raises(InputError, match="has no array shapedirs, kintree_table"):
        read_motion(tmp_path / "clip.npz", tmp_path / "model.npz")


def test_c3d_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ezc3d", None)
    with pytest.raises(InputError, match="clip.c3d: C3D files need the package ezc3d: pip install ezc3d"):
        read_motion(tmp_path / "clip.c3d")


def test_c3d(tmp_path):
    """A file that the package itself has written; of a subject with a name, of six frames."""
    points = np.random.default_rng(0).normal(size=(4, 2, 6)) * 1000
    points[3] = 1
    file = ezc3d.c3d()
    group = file["parameters"]["POINT"]
    group["LABELS"]["value"], group["RATE"]["value"], group["UNITS"]["value"] = ["Anna:LFEP", "RFEP"], [100.0], ["mm"]
    file["data"]["points"] = points
    file.write(str(tmp_path / "clip.c3d"))
    motion = read_c3d(tmp_path / "clip.c3d")
    assert motion.joints == ("Anna:LFEP", "RFEP") and motion.fps == 100 and motion.unit == 0.001
    np.testing.assert_allclose(motion.positions, points[:3].transpose(2, 1, 0), rtol=1e-6)
    (tmp_path / "clip.c3d").write_bytes(b"no" * 300)
    with pytest.raises(InputError, match="clip.c3d is damaged or no C3D file"):
        read_c3d(tmp_path / "clip.c3d")


def test_c3d_through_its_package(tmp_path, monkeypatch):
    """The arrays as ezc3d gives them: points (4, P, T), a label that has no points after the last."""
    points = np.random.default_rng(0).normal(size=(4, 2, 6))
    group = {"LABELS": {"value": ["Anna:LFEP ", "RFEP"]}, "RATE": {"value": [100.0]}, "UNITS": {"value": ["mm"]}}
    package = types.ModuleType("ezc3d")
    package.c3d = lambda path: {"parameters": {"POINT": group}, "data": {"points": points}}
    monkeypatch.setitem(sys.modules, "ezc3d", package)
    motion = read_c3d(tmp_path / "clip.c3d")
    assert motion.joints == ("Anna:LFEP", "RFEP") and motion.fps == 100 and motion.unit == 0.001
    assert motion.positions[4, 1].tolist() == points[:3, 1, 4].tolist()
    package.c3d = lambda path: {}
    with pytest.raises(InputError, match="clip.c3d is damaged or no C3D file"):
        read_c3d(tmp_path / "clip.c3d")


def test_unknown_kinds_of_file(tmp_path):
    with pytest.raises(InputError, match="unknown kind of file '.fbx'; expected one of .bvh"):
        read_motion(tmp_path / "clip.fbx")
