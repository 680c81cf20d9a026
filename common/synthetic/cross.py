"""The synthetic set's cross-data twin: other bodies, other cameras and other actions than it has, for PoseAug's scores.

`ensure_cross(folder)` makes `test_synthetic_cross.npz` in the form of PoseAug's `test_3dhp.npz` (see
`common.datasets.mpi_inf_3dhp`): `pose3d`, (N, 16, 3) metres, camera frame, absolute; `pose2d`, (N, 16, 2),
screen-normalised, exact. The same seed gives the same bytes. Every bone is longer than the longest or shorter than the
shortest of the people to train on; the cameras stand lower and higher than Human3.6M's, with shorter and longer lenses;
people exercise, stretch on the floor, play, dance and practise yoga.
"""

import zlib
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray as Array

from common.camera import Camera, project, world_to_camera
from common.h36m import TRAIN_SUBJECTS
from common.skeleton import H36M_16, H36M_17, convert
from common.synthetic.behaviour import FPS, perform
from common.synthetic.dataset import bodies, make_once
from common.synthetic.motion import CHANNELS, Body, pose
from common.synthetic.postures import Scene

NAME = "synthetic_cross"
VERSION = 1  # to be raised with every change of the content: a file of another version is made anew
FILE = f"test_{NAME}.npz"
SECONDS = 10.0  # of every body in every action
STRIDE = 5  # frames between the poses taken; the cameras take turns

# How far bones lie outside the range of the people to train on, as a share: above the longest, or below the shortest.
# Order: hip, thigh, shin, lower and upper spine, head, clavicle, upper arm, forearm.
BUILDS = {
    "tall": (0.04, 0.07, 0.08, 0.06, 0.06, 0.04, 0.05, 0.07, 0.08),
    "child": (-0.2, -0.2, -0.22, -0.16, -0.16, -0.04, -0.2, -0.2, -0.2),
    "lanky": (-0.05, 0.06, 0.08, -0.06, -0.06, -0.03, -0.06, 0.06, 0.1),
    "stocky": (0.08, -0.08, -0.08, 0.05, 0.05, 0.06, 0.08, -0.06, -0.08),
}

# Focal length over half the width | width, height in pixels | height and distance in metres | direction in degrees.
# Human3.6M's: 2.3 | 1000, 1000 | 1.5 to 1.6 and 4.1 to 5.6.
VIEWPOINTS = (
    (1.46, 2048, 2048, 0.45, 2.9, 10),
    (1.46, 2048, 2048, 2.9, 2.9, 75),
    (1.2, 2048, 2048, 2.1, 2.4, 140),
    (1.75, 1920, 1080, 1.0, 4.2, 200),
    (1.75, 1920, 1080, 3.4, 4.6, 260),
    (3.1, 1280, 1280, 1.9, 7.0, 320),
)
AIM = 0.85  # metres above the floor where the cameras look

SCENES = {
    "Squats": Scene(
        ("crouch", "stand"), ("upright", "stoop", "level"), ("front", "nape", "up"), pace=(0.5, 1.0), both=1
    ),
    "JumpingJacks": Scene(
        ("straddle", "leap", "stand"), ("upright",), ("wide", "up", "relaxed"), pace=(0.3, 0.6), both=1
    ),
    "Lunges": Scene(("lunge", "half kneel"), ("upright", "arch"), ("waist", "up", "wide"), pace=(0.7, 1.4), both=0.9),
    "SitUps": Scene(("lie", "floor"), ("supine", "slumped"), ("nape", "front", "folded"), "fix", (0.7, 1.5), both=1),
    "FloorStretch": Scene(
        ("floor", "tailor"), ("bow", "free", "seated"), ("ground", "front", "up", "side"), "fix", both=0.7
    ),
    "SideBends": Scene(
        ("straddle", "stand"), ("free", "level", "bow"), ("up", "wide", "side"), pace=(0.8, 1.6), both=0.5
    ),
    "Yoga": Scene(
        ("raise", "lunge", "straddle"), ("level", "arch", "free"), ("side", "wide", "up"), pace=(1.0, 2.2), both=0.6
    ),
    "Football": Scene(
        ("kick", "lunge", "stand"), ("stoop", "arch", "free"), ("wide", "back", "side"), "roam", (0.3, 0.8)
    ),
    "Goalkeeper": Scene(
        ("crouch", "leap", "duck", "kneel"), ("stoop", "free", "bow"), ("any", "ground", "up"), pace=(0.3, 0.7)
    ),
    "Tennis": Scene(
        ("lunge", "duck", "straddle"), ("free", "arch"), ("any", "wide", "up", "guard"), "roam", (0.3, 0.8), (0.8, 2.0)
    ),
    "Dance": Scene(
        ("raise", "leap", "straddle", "step"), ("free", "arch", "dangle"), ("any", "wide", "back"), "stay", (0.3, 0.8)
    ),
    "SitBackwards": Scene(
        ("chair", "straddle"), ("slumped", "arch", "free"), ("back", "nape", "up", "wide"), "fix", (0.6, 1.4)
    ),
}


def ensure_cross(data_dir: str | Path, seed: int | None = None) -> Path:
    """Make the file in `data_dir` unless it is there, of this seed (None: of any seed); its path.

    Raises:
        InputError: the folder cannot be written.
    """
    return make_once(data_dir, (FILE,), f"{NAME} version {VERSION}", seed, make_cross)[0]


def cross_bodies() -> dict[str, Body]:
    """Build -> body. Angles of the trunk are drawn as for the other bodies (`dataset.bodies`)."""
    known = bodies()
    lengths = np.array([list(vars(known[subject]).values())[:9] for subject in TRAIN_SUBJECTS])
    shortest, longest = lengths.min(0), lengths.max(0)
    result = {}
    for number, (name, outside) in enumerate(BUILDS.items()):
        share = np.array(outside)
        build = np.random.default_rng((number, len(known)))
        result[name] = Body(
            *(np.where(share > 0, longest, shortest) * (1 + share)),
            shoulder_drop=np.radians(build.uniform(8, 30)),
            lordosis=np.radians(build.uniform(0, 12)),
            head_lean=np.radians(build.uniform(2, 24)),
        )
    return result


def cross_cameras() -> tuple[Camera, ...]:
    """Cameras around the room, without lens distortion, level, aimed at its middle."""
    return tuple(_aimed(str(number), *viewpoint) for number, viewpoint in enumerate(VIEWPOINTS))


def _aimed(name: str, focal: float, width: int, height: int, up: float, away: float, direction: float) -> Camera:
    """A camera `away` metres from the middle of the room in a direction (degrees), `up` metres above the floor."""
    angle, down = np.radians(direction), np.arctan2(up - AIM, away)
    # The camera's x axis lies in the floor: a turn about it from looking up to looking ahead and down, then about z.
    tilt, turn = -(np.pi / 2 + down) / 2, (angle + np.pi / 2) / 2
    (cos, sin), (cos_turn, sin_turn) = ((float(np.cos(half)), float(np.sin(half))) for half in (tilt, turn))
    return Camera(
        id=name,
        width=width,
        height=height,
        focal=(focal * width / 2,) * 2,
        centre=(width / 2, height / 2),
        radial=(0.0, 0.0, 0.0),
        tangential=(0.0, 0.0),
        orientation=(cos_turn * cos, cos_turn * sin, sin_turn * sin, sin_turn * cos),
        translation=(away * float(np.cos(angle)), away * float(np.sin(angle)), up),
    )


def make_motion(seed: int = 0, seconds: float = SECONDS) -> dict[str, Array]:
    """Build -> world joints (actions, T, 17, 3), metres, float32, in the order of `SCENES`."""
    frames, result = round(seconds * FPS), {}
    for name, body in cross_bodies().items():
        takes = []
        for action, scene in SCENES.items():
            rng = np.random.default_rng((seed, zlib.crc32(f"{NAME}/{name}/{action}".encode())))
            takes.append(perform(body, (scene,), frames, rng))
        together = {channel: np.concatenate([take[channel] for take in takes]) for channel in CHANNELS}
        result[name] = pose(body, together).astype(np.float32).reshape(len(takes), frames, H36M_17.num_joints, 3)
    return result


def make_cross(seed: int = 0, seconds: float = SECONDS) -> dict[str, dict[str, Array]]:
    """The arrays of the file, by file name. A pose that is not wholly in its picture is left out."""
    poses, keypoints = [], []
    for takes in make_motion(seed, seconds).values():
        world = torch.from_numpy(convert(takes[:, ::STRIDE], H36M_17, H36M_16))
        for number, camera in enumerate(cross_cameras()):
            turns = world[:, number :: len(VIEWPOINTS)].flatten(0, 1)
            in_view = world_to_camera(turns, torch.tensor(camera.orientation), torch.tensor(camera.translation))
            points = project(in_view, camera.intrinsics("screen"))
            inside = (points.abs() <= torch.tensor((1, camera.height / camera.width))).all(-1).all(-1)
            poses.append(in_view[inside].numpy())
            keypoints.append(points[inside].numpy())
    return {FILE: {"pose3d": np.concatenate(poses), "pose2d": np.concatenate(keypoints)}}
