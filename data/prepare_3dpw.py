"""Make 3DPW's files, data_3d_3dpw.npz and data_2d_3dpw_detected.npz, from its sequence files.

python data/prepare_3dpw.py --source sequenceFiles [--data-dir data] [--force]
then   python run_evaluate.py -d 3dpw -k gt ...                  or --cross_data 3dpw beside another set

von Marcard et al., "Recovering Accurate 3D Human Pose in The Wild Using IMUs and a Moving Camera", ECCV 2018. Read are
sequenceFiles/{train,validation,test}/*.pkl, pickles of Python 2, of which nothing is run. Keys, of each file's people:
    jointPositions  (N, 72) metres, world: SMPL's 24 joints
    poses2d         (N, 3, 18) x, y, confidence of OpenPose's 18 joints
    cam_poses       (N, 4, 4) world -> camera, one for all people
    campose_valid   (N,) whether that camera is to be trusted
    cam_intrinsics  (3, 3) pixels; the size of the pictures, 1920 x 1080 or upright, is told by its centre

Subjects are train, validation (both to train on) and test, actions the sequences; people and stretches of valid frames
of a sequence are its takes. 2D: -k gt is the projected skeleton, -k detected is poses2d, with missing joints filled in.
The camera moves, so poses are kept in its frame: up is the picture's up, its tilt stays in the pose.

Human3.6M's joints are made of SMPL's skeleton, as for AMASS. Published 3DPW scores are of 14 joints regressed from the
mesh of a body model, whose hips and shoulders lie elsewhere: scores here compare with each other, not with those.
Known from the publication and from public code that reads the files; none was at hand. That cameras, joints and
detections fit each other is checked on reading, by the distance of their pixels.
"""

import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

import numpy as np  # noqa: E402

from common.datasets import captures  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.npz import load_pickle  # noqa: E402
from common.mocap.joints import PRESETS, h36m_poses, h36m_weights  # noqa: E402
from common.mocap.read import SMPL_BODY  # noqa: E402
from common.run.options import Parser  # noqa: E402
from common.skeleton import H36M_17  # noqa: E402
from common.video import follow  # noqa: E402
from common.video.layouts import h36m_matrix  # noqa: E402

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
FPS = 30
LONGEST_GAP = 25 / FPS  # seconds, of detections
SIZE = (1920, 1080)
CONFIDENT = 0.3  # detections below it say nothing
FARTHEST = 100  # pixels by which the middle limb may be from its detection
LIMBS = [H36M_17.index(f"{side} {joint}") for side in ("left", "right") for joint in ("shoulder", "elbow", "knee")]
SMPL_WEIGHTS = h36m_weights(SMPL_BODY, PRESETS["smpl"][0], "SMPL")
KEYS = {"jointPositions": (72,), "poses2d": (3, 18), "campose_valid": (), "cam_poses": (4, 4)}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="3DPW's sequenceFiles")
    parser.add_argument("--data-dir", type=Path, default=Path(__file__).parent, help="where the files go")
    parser.add_argument("--force", action="store_true", help="make the files again if they are there")
    args = parser.parse_args()
    files = [args.data_dir / name for name in ("data_3d_3dpw.npz", "data_2d_3dpw_detected.npz")]
    if all(file.exists() for file in files) and not args.force:
        print(f"{files[0]} and {files[1].name} are there already: nothing done (--force makes them again)")
        return
    takes: dict[str, dict[str, captures.Take]] = {}
    for split in SPLITS:
        found = sorted((args.source / split).glob("*.pkl"))
        actions = {name: take for file in found for name, take in sequence_takes(file).items()}
        if actions:
            takes[split] = actions
            frames = sum(len(take.poses) for take in actions.values())
            print(f"{split}: {len(found)} sequences, {len(actions)} takes, {frames:,} poses")
    if not takes:
        raise InputError(f"{args.source.absolute()} has no {', '.join(f'{split}/*.pkl' for split in SPLITS)}")
    for file in captures.save(args.data_dir, "3dpw", takes, ["train", "validation"], ["test"], FPS, "detected"):
        print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")


def sequence_takes(file: Path) -> dict[str, captures.Take]:
    """Sequence and number -> take of a file's people, in the axes of its camera.

    Raises:
        InputError: no such file, other shapes, or cameras that do not fit the detections.
    """
    data = load_pickle(file)
    people, camera = read_people(data, file), picture_camera(data, file)
    takes, off = {}, []
    for person in people:
        world = h36m_poses(person["jointPositions"].reshape(-1, 24, 3)[:, : len(SMPL_BODY)], SMPL_WEIGHTS)
        turn, move = person["cam_poses"][:, :3, :3], person["cam_poses"][:, None, :3, 3]
        poses = captures.upright_camera_frame(world @ turn.transpose(0, 2, 1) + move)
        points, seen = detections(person["poses2d"], file)
        valid = person["campose_valid"] != 0
        sure = seen[valid][:, LIMBS] >= CONFIDENT
        apart = np.linalg.norm(captures.projected(poses, camera) - points, axis=-1)[valid][:, LIMBS]
        off.append(apart[sure & np.isfinite(apart)])
        for rows in captures.runs(valid):
            takes[f"{file.stem} {len(takes) + 1}"] = captures.Take(poses[rows], [camera], [points[rows]])
    off = np.concatenate(off)
    if len(off) and not np.median(off) < FARTHEST:
        raise InputError(
            f"{file}: the middle joint is {np.median(off):.0f} pixels from its detection in poses2d; do "
            "jointPositions, cam_poses and cam_intrinsics belong together?"
        )
    return takes


def read_people(data: Any, file: Path) -> list[dict[str, np.ndarray]]:
    """`KEYS` of each person, float64, one row a frame."""
    missing = [key for key in (*KEYS, "cam_intrinsics") if not isinstance(data, dict) or key not in data]
    if missing:
        raise InputError(f"{file} has no {', '.join(missing)}; expected a sequence file of 3DPW")
    values = {key: data[key] if isinstance(data[key], (list, tuple)) else [] for key in KEYS}
    values["cam_poses"] = [data["cam_poses"]] * len(values["jointPositions"])
    counts = {key: len(part) for key, part in values.items()}
    if len(set(counts.values())) > 1 or not counts["cam_poses"]:
        raise InputError(f"{file}: {', '.join(f'{key} of {count}' for key, count in counts.items())} people")
    people = [{key: np.asarray(part[i]) for key, part in values.items()} for i in range(counts["cam_poses"])]
    for person in people:
        frames = len(person["cam_poses"])
        for key, array in person.items():
            if array.dtype.kind not in "biuf" or array.shape != (frames, *KEYS[key]):
                raise InputError(f"{file}: {key} has shape {array.shape}; expected numbers {(frames, *KEYS[key])}")
    return [{key: array.astype(float) for key, array in person.items()} for person in people]


def picture_camera(data: dict, file: Path) -> dict[str, Any]:
    """The camera's dictionary; the picture is upright where its centre is so."""
    matrix = np.asarray(data["cam_intrinsics"])
    if matrix.shape != (3, 3) or matrix.dtype.kind not in "iuf":
        raise InputError(f"{file}: cam_intrinsics has shape {matrix.shape}; expected numbers (3, 3)")
    size = SIZE if matrix[0, 2] > matrix[1, 2] else SIZE[::-1]
    if np.abs(2 * matrix[:2, 2] / size - 1).max() > 0.25:
        raise InputError(
            f"{file}: the centre of cam_intrinsics, {matrix[:2, 2].round().tolist()}, is not that of 1920 x 1080 pixels"
        )
    return captures.camera(matrix.astype(float), size, captures.CAMERA_TO_Z_UP.T, np.zeros(3), file.stem)


def detections(points: np.ndarray, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Detections (N, 3, 18) -> Human3.6M's joints (N, 17, 2) and confidence (N, 17); NaN in frames far from any."""
    points = points.transpose(0, 2, 1)
    there, clock = follow.present(points, CONFIDENT).any(-1), np.arange(len(points)) / FPS
    away = follow.gap_lengths(there, clock) > LONGEST_GAP
    result, confidence = np.full((len(points), 17, 2), np.nan), np.zeros((len(points), 17))
    if there.any():
        try:
            result, confidence, _ = follow.fill(
                points, h36m_matrix("openpose18"), "openpose18", CONFIDENT, LONGEST_GAP, file, clock
            )
            result[away] = np.nan
        except InputError as error:
            log.warning("%s: detections left out", error)
    return result, confidence


if __name__ == "__main__":
    run_script(main)
