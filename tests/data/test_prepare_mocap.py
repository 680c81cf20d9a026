"""A folder of motion files becomes a Human3.6M-layout set that loads: people upright and in view, bad files named."""

import numpy as np
import pytest
from PIL import Image

from common.camera import h36m_cameras, project
from common.datasets.cameras import Frame
from common.datasets.contract import load_contract, own_split
from common.datasets.h36m_layout import load_pose_set
from common.files.npz import load_npz
from common.mocap import motion
from common.skeleton import H36M_17, H36M_32, convert
from tests.conftest import assert_refused
from tests.motion_files import person, smpl_rest, write_acclaim, write_clip

SCRIPT = "data/prepare_mocap.py"


@pytest.fixture
def source(tmp_path):
    """Three people, each in files of another kind: centimetres, z up at 30 frames, CMU's own."""
    folder = tmp_path / "source"
    write_clip(folder / "anna" / "walk_1.bvh", "mixamo", scale=100)
    write_clip(folder / "anna" / "greet.bvh", "mixamo", person(action="Greeting"), scale=100)
    write_clip(folder / "bert" / "sit.bvh", "biped", person(action="Sitting", subject="S1"), fps=25, up="z")
    write_acclaim(folder / "carl")
    return folder


@pytest.fixture
def prepare(script, tmp_path):
    def run(source, *options):
        return script(SCRIPT, "--source", source, "-d", "mine", "--data-dir", tmp_path / "data", *options)

    return run


def poses_of(folder):
    return load_npz(folder / "data_3d_mine.npz")["positions_3d"]


def test_a_folder_becomes_a_set(prepare, source, tmp_path, caplog):
    done = prepare(source)
    assert done.status == 0 and not caplog.messages, done
    assert "4 files" in done.out and "preset: mixamo (2 files), biped (1 files), acclaim (1 files)" in done.out
    assert (
        "unit: cm (2 files), m (1 files), 0.05644 m (1 files)" in done.out
        and "up: y (3 files), z (1 files)" in done.out
    )
    assert "joints in the picture: 100.00%" in done.out
    poses = poses_of(tmp_path / "data")
    assert (
        list(poses) == ["S1", "S5", "S6", "S9"]
        and list(poses["S1"]) == ["Greet"]
        and list(poses["S9"]) == ["Motion02 1"]
    )
    for takes in poses.values():
        for take in takes.values():
            assert take.dtype == np.float32 and take.shape[1:] == (32, 3) and 0 <= take[..., 2].min() < 0.2
            body = convert(take, H36M_32, H36M_17)
            assert motion.not_human(body) == [] and motion.up_vote(body)[2] > 0.8
    sheet = Image.open(tmp_path / "data" / "mine_sheet.png")
    assert sheet.width == 1200 and sheet.height > 600


def test_it_loads_and_its_keypoints_are_projections(prepare, source, tmp_path):
    assert prepare(source, "--test", "bert").status == 0
    data = load_pose_set(tmp_path / "data", "mine", "gt", "S9")
    assert {seq.action for seq in data.sequences} == {"Sit"} and len(data.sequences) == 4
    for seq in data.sequences:
        rows = slice(seq.start, seq.start + seq.length)
        camera = h36m_cameras()["S9"][seq.view]
        assert np.allclose(project(data.poses[rows], camera.intrinsics()), data.keypoints[rows], atol=0.02)
        assert (data.poses[rows, :, 2] > 1).all()
        # Right stays right: of a person who faces the camera the right hip is on the left of the picture.
        left = data.poses[rows, 4] - data.poses[rows, 1]
        up = data.poses[rows, 8] - data.poses[rows, 0]
        front = np.cross(left.numpy(), up.numpy())
        facing = -front[:, 2] / np.linalg.norm(front, axis=-1)
        offset = (data.keypoints[rows, 4, 0] - data.keypoints[rows, 1, 0]).numpy()
        assert (offset[facing > 0.5] > 0).all() and (offset[facing < -0.5] < 0).all()


def test_the_contract_says_rate_axes_and_split(prepare, source, tmp_path):
    """So that -d NAME needs no --subjects-train, whoever of the seven seats is taken."""
    assert prepare(source).status == 0
    contract = load_contract(tmp_path / "data", "mine")
    assert (contract.fps, contract.frame, contract.says_up) == (50, Frame("m", "z"), True)
    assert own_split(tmp_path / "data", "mine") == ("S1,S5,S6", "S9")
    assert load_pose_set(tmp_path / "data", "mine", "gt", contract.subjects_train).poses.isfinite().all()
    assert prepare(source / "carl" / "02_01.amc", "--force").status == 0
    assert load_contract(tmp_path / "data", "mine").subjects_test == ()


def test_time_and_place(prepare, tmp_path):
    """What was recorded at 25 frames a second is there at 50, the body as it was."""
    poses = person(51, "Greeting")
    write_clip(tmp_path / "source" / "greet.bvh", poses=poses[::2], fps=25)
    assert prepare(tmp_path / "source").status == 0
    take = convert(poses_of(tmp_path / "data")["S1"]["Greet"], H36M_32, H36M_17)
    assert len(take) == 51
    distances = [np.linalg.norm(p[:, :, None] - p[:, None], axis=-1) for p in (take, poses)]
    assert np.abs(distances[0] - distances[1]).max() < 0.01 and np.abs(distances[0] - distances[1])[::2].max() < 1e-4
    assert np.ptp(take[..., 2] - poses[..., 2]) < 0.01


def test_one_person_is_said_and_files_that_are_there_stay(prepare, tmp_path, caplog):
    write_clip(tmp_path / "source" / "walk.bvh")
    done = prepare(tmp_path / "source")
    assert (
        done.status == 0
        and "there is one person, source" in caplog.text
        and list(poses_of(tmp_path / "data")) == ["S1"]
    )
    written = (tmp_path / "data" / "data_3d_mine.npz").read_bytes()
    done = prepare(tmp_path / "source", "--seed", 1)
    assert "nothing done" in done.out and (tmp_path / "data" / "data_3d_mine.npz").read_bytes() == written
    (tmp_path / "data" / "mine_sheet.png").unlink()
    assert prepare(tmp_path / "source").status == 0 and (tmp_path / "data" / "mine_sheet.png").is_file()
    assert (tmp_path / "data" / "data_3d_mine.npz").read_bytes() == written
    assert prepare(tmp_path / "source", "--seed", 1, "--force").status == 0
    assert (tmp_path / "data" / "data_3d_mine.npz").read_bytes() != written
    assert prepare(tmp_path / "source" / "walk.bvh", "--force").status == 0
    assert (tmp_path / "data" / "data_3d_mine.npz").read_bytes() == written


def test_joints_as_npz_with_a_rate_and_a_unit_given(prepare, tmp_path):
    (tmp_path / "source").mkdir()
    points = np.repeat(smpl_rest()[None], 60, 0) + (0, 1.2, 0)
    np.savez(tmp_path / "source" / "rest_poses.npz", joints=points)
    assert_refused(prepare(tmp_path / "source"), "rest_poses.npz does not say how many frames a second", "--fps")
    done = prepare(tmp_path / "source", "--fps", 60, "--unit", "m", "--up", "y")
    assert done.status == 0, done.err
    take = poses_of(tmp_path / "data")["S1"]["Rest"]
    assert len(take) == 50 and take[0, H36M_32.index("head"), 2] == pytest.approx(1.2 + 0.47, abs=0.01)


def test_a_map_for_unknown_names(prepare, tmp_path):
    file = write_clip(tmp_path / "source" / "walk.bvh")
    file.write_text(file.read_text().replace("LeftUpLeg", "Oberschenkel"))
    done = prepare(tmp_path / "source")
    assert_refused(done, "walk.bvh has no joint for left hip (LeftUpLeg)", "Hips, RHipJoint", "--map")
    names = {"left hip": "Oberschenkel", "left knee": "LeftLeg", "left foot": "LeftFoot", "right hip": "RightUpLeg"}
    names |= {"right knee": "RightLeg", "right foot": "RightFoot", "head": "Head end", "thorax": "Neck"}
    for side in ("Left", "Right"):
        names |= {
            f"{side.lower()} {j}": f"{side}{n}"
            for j, n in (("shoulder", "Arm"), ("elbow", "ForeArm"), ("wrist", "Hand"))
        }
    (tmp_path / "map.yaml").write_text("\n".join(f"{joint}: {name}" for joint, name in names.items()))
    done = prepare(tmp_path / "source", "--map", tmp_path / "map.yaml")
    assert done.status == 0 and "preset: map (1 files)" in done.out


def test_what_cannot_be_read_is_left_out_by_name(prepare, source, caplog):
    (source / "anna" / "greet.bvh").write_text("HIERARCHY\nROOT Hips\n{\n")
    (source / "bert" / "shape.npz").write_bytes(b"no zip")
    (source / "notes.txt").write_text("not a motion file")
    done = prepare(source)
    assert done.status == 0
    lines = [line for line in caplog.messages if line.startswith("left out: ")]
    assert len(lines) == 2 and "greet.bvh has no MOTION" in lines[0] and "shape.npz is not an .npz" in lines[1]
    assert "3 files" in done.out


def test_nothing_left(prepare, tmp_path):
    source = tmp_path / "source"
    assert_refused(prepare(source), "source does not exist (looked for ")
    source.mkdir()
    assert_refused(prepare(source), "has no motion files", ".bvh, .amc, .npz, .c3d")
    for name in "ab":
        (write_clip(source / f"{name}.bvh")).write_text("HIERARCHY\n")
    assert_refused(prepare(source), "none of 2 files can be used; the first: ", "a.bvh has no MOTION")
    assert not (tmp_path / "data").exists()


def test_bodies_that_are_not_human_are_warned_of(prepare, tmp_path, caplog):
    write_clip(tmp_path / "source" / "walk.bvh", poses=person()[:, list(H36M_17.mirror)])
    done = prepare(tmp_path / "source", "--unit", "1.4")
    assert done.status == 0
    assert "source: height" in caplog.text and "left and right swapped" in caplog.text


@pytest.mark.parametrize(
    "options, words",
    [
        (("--unit", "feet"), "expected auto, m, cm, mm, inch, cmu or a number, found 'feet'"),
        (("--subject-pattern", "("), "no regular expression"),
        (("--subject-pattern", "person(x)"), "finds no person"),
        (("--test", "zoe"), "--test names zoe; the people are: source"),
        (("--preset", "maya"), "invalid choice: 'maya'"),
        (("--map", "no.yaml"), "cannot read no.yaml"),
        (("--preset", "smpl"), "has no joint for left hip (L_Hip)"),
    ],
)
def test_options_that_do_not_fit(prepare, tmp_path, options, words):
    write_clip(tmp_path / "source" / "walk.bvh", poses=person(20))
    assert_refused(prepare(tmp_path / "source", *options), words)


def test_names_that_are_taken(script, tmp_path):
    assert_refused(script(SCRIPT, "--source", tmp_path, "-d", "h36m"), "none of h36m, synthetic")
    assert_refused(script(SCRIPT, "--source", tmp_path, "-d", "a/b"), "expected letters and digits")
