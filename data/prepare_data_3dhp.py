"""Make MPI-INF-3DHP's files: the set as it is released, for `-d 3dhp`, and PoseAug's test file, test_3dhp.npz.

python data/prepare_data_3dhp.py --training DIR --test DIR [--cameras 0,2,4,7,8] [--true-size]      (either will do)
python data/prepare_data_3dhp.py --source mpi_inf_3dhp_valid.npz [--data-dir data] [--force]
then   python run_baseline.py -d 3dhp -k gt ...

--training: the folder with S1/Seq1/annot.mat and S1/Seq1/camera.calibration, ..., to S8; --test: the folder with
TS1/annot_data.mat to TS6. `common/datasets/mpi_inf_release.py` says what is read. Writes data_3d_3dhp.npz and
data_2d_3dhp_gt.npz, with their cameras: S1 to S8 to train on, TS1 to TS6 to test on (valid frames only, by activity;
frames that follow each other are a take). Universal coordinates, in which the published scores are; --true-size keeps
the size of the people to train on.

--source: SPIN's data sets (github.com/nkolot/SPIN, fetch_data.sh: dataset_extras/mpi_inf_3dhp_valid.npz) hold the 2,929
valid frames of the test sequences TS1 to TS6 in SPIN's 24 joints. Keys read:
    imgname  (N,) text, ".../TS1/imageSequence/img_000001.jpg": the sequence gives the size of the picture
    part     (N, 24, 3): x and y in pixels, and 1 where the joint is visible, else 0
    S        (N, 24, 4): x, y, z in metres, camera frame, relative to the pelvis; the fourth column is not read
The keys center and scale (boxes around the person) are not read. Writes DATA_DIR/data_extra/test_set/test_3dhp.npz:
pose3d (2929, 16, 3) metres, pose2d (2929, 16, 2) screen-normalised, zero where a joint is not visible.
"""

import re
import sys
from argparse import ArgumentTypeError
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

import numpy as np  # noqa: E402

from common.datasets import captures, mpi_inf_release  # noqa: E402
from common.datasets.mpi_inf_3dhp import TEST_SET  # noqa: E402
from common.datasets.mpi_inf_release import TEST_SIZES as SIZES  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.npz import load_npz, save_npz  # noqa: E402
from common.run.options import Parser  # noqa: E402
from common.skeleton import H36M_16  # noqa: E402

ITEMS = 2929
# SPIN's joint in each place of the 16-joint layout: pelvis, right and left leg from the hip, H36M's spine, LSP's neck,
# H36M's head, left and right arm from the shoulder.
SPIN_JOINTS = (14, 2, 1, 0, 3, 4, 5, 16, 12, 18, 9, 10, 11, 8, 7, 6)
HIP_TO_HEAD = (0.3, 1.0)  # metres in which the middle of all hip-head distances must lie


def camera_list(text: str) -> tuple[int, ...]:
    """An option type: numbers of cameras."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise ArgumentTypeError(f"expected numbers of cameras such as 0,2,4, found {text!r}") from error


OPTIONS = (
    ("--training", Path, None, "with S1/Seq1/annot.mat and camera.calibration", "DIR"),
    ("--test", Path, None, "with TS1/annot_data.mat to TS6", "DIR"),
    ("--source", Path, None, "SPIN's mpi_inf_3dhp_valid.npz", "FILE.npz"),
    ("--cameras", camera_list, ",".join(map(str, mpi_inf_release.CHEST_CAMERAS)),
     "of the training set, 0 to 13; the default are those at the height of the chest", "LIST"),
    ("--true-size", bool, False, "people to train on as large as they are"),
    ("--data-dir", Path, Path(__file__).parent, "where the files go", "DIR"),
    ("--force", bool, False, "make the files again if they are there"),
)  # fmt: skip


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Data", OPTIONS)
    args = parser.parse_args()
    if not (args.training or args.test or args.source):
        parser.error("what is to be read? give --training DIR, --test DIR or --source FILE.npz")
    if args.training or args.test:
        make_set(args)
    if args.source:
        make_test_file(args)


# ------------------------------------------------------------ the release


def make_set(args) -> None:
    """Write data_3d_3dhp.npz and data_2d_3dhp_gt.npz."""
    files = [args.data_dir / name for name in ("data_3d_3dhp.npz", "data_2d_3dhp_gt.npz")]
    if all(file.exists() for file in files) and not args.force:
        print(f"{files[0]} and {files[1].name} are there already: nothing done (--force makes them again)")
        return
    takes: dict[str, dict[str, captures.Take]] = {}
    for folder in folders(args.training, "S[0-9]*/Seq*", "annot.mat"):
        take = mpi_inf_release.training_take(folder, args.cameras, not args.true_size)
        takes.setdefault(folder.parent.name, {})[folder.name] = take
        print(f"{folder.parent.name} {folder.name}: {len(take.poses):,} frames, {len(take.cameras)} cameras")
    for folder in folders(args.test, "TS*", "annot_data.mat"):
        if folder.name in SIZES:
            takes[folder.name], off = mpi_inf_release.testing_takes(folder)
            frames, count = sum(len(take.poses) for take in takes[folder.name].values()), len(takes[folder.name])
            print(f"{folder.name}: {frames:,} valid frames in {count} takes; its camera fits to {off:.1f} pixels")
    subjects = list(takes)
    train, test = [s for s in subjects if s not in SIZES], [s for s in subjects if s in SIZES]
    for file in captures.save(args.data_dir, "3dhp", takes, train, test, mpi_inf_release.FPS, "gt"):
        print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")


def folders(root: Path | None, pattern: str, file: str) -> list[Path]:
    """The folders in `root` that hold the file; none where there is no root."""
    found = sorted(path.parent for path in root.glob(f"{pattern}/{file}")) if root else []
    if root and not found:
        raise InputError(f"{root.absolute()} has no {pattern.replace('[0-9]*', '1').replace('*', '1')}/{file}")
    return found


# ------------------------------------------------------------ PoseAug's test file


def make_test_file(args) -> None:
    """Write test_3dhp.npz."""
    target = args.data_dir / TEST_SET
    if target.exists() and not args.force:
        print(f"{target} is there already: nothing done (--force makes it again)")
        return
    names, part, space = read_spin(args.source)
    sequences = [sequence_of(name, args.source) for name in names]
    pose2d, pose3d = screen_keypoints(part, sequences), space[:, SPIN_JOINTS, :3].astype(np.float32)
    check_unit(pose3d, args.source)
    save_npz(target, pose3d=pose3d, pose2d=pose2d)
    counts = Counter(sequences)
    print(", ".join(f"{name} {counts[name]:,}" for name in sorted(counts)) + " poses")
    print(f"joints not visible, set to zero in 2D: {(part[:, SPIN_JOINTS, 2] == 0).sum():,}")
    print(f"{target}  {len(pose3d):,} poses, {H36M_16.num_joints} joints, {target.stat().st_size / 1e6:.1f} MB")


def read_spin(file: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """imgname, part and S of the first 2,929 items, checked."""
    keys = ("imgname", "part", "S")
    arrays = load_npz(file, required=keys)
    names, part, space = (np.asarray(arrays[key]) for key in keys)
    if names.ndim != 1 or names.dtype.kind not in "USO":
        raise InputError(f"{file}: imgname has shape {names.shape} of {names.dtype}; expected (N,) names of pictures")
    check_points(part, "part", (3,), file)
    check_points(space, "S", (3, 4), file)
    lengths = [len(names), len(part), len(space)]
    if len(set(lengths)) > 1:
        found = ", ".join(f"{key} {length}" for key, length in zip(keys, lengths, strict=True))
        raise InputError(f"{file}: arrays of unequal length: {found}; fetch the file again")
    if len(names) < ITEMS:
        raise InputError(
            f"{file} has {len(names):,} items; the test set has {ITEMS:,}: expected SPIN's mpi_inf_3dhp_valid.npz"
        )
    names, part, space = names[:ITEMS], part[:ITEMS], space[:ITEMS]
    for key, points in (("part", part), ("S", space)):
        finite = np.isfinite(points).all((1, 2))
        if not finite.all():
            raise InputError(f"NaN or infinity in {file}: {key}, item {finite.argmin()}; fetch the file again")
    return (
        [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.tolist()],
        part,
        space,
    )


def check_points(points: np.ndarray, key: str, columns: tuple[int, ...], file: Path) -> None:
    """Refuse what is no number array (N, 24, one of `columns`)."""
    if points.dtype.kind not in "fiu" or points.ndim != 3 or points.shape[1] != 24 or points.shape[2] not in columns:
        raise InputError(
            f"{file}: {key} has shape {points.shape} of {points.dtype}; expected numbers (N, 24, {columns[-1]}), "
            "SPIN's 24 joints"
        )


def sequence_of(name: str, file: Path) -> str:
    """The test sequence, TS1 to TS6, that a picture's name has as a folder."""
    found = re.search(r"(?:^|[/\\])(TS\d+)[/\\]", name)
    if not found or found[1] not in SIZES:
        raise InputError(
            f"{file}: {name!r:.80} is in none of the folders {', '.join(SIZES)}: the size of its picture is unknown; "
            "expected SPIN's mpi_inf_3dhp_valid.npz"
        )
    return found[1]


def screen_keypoints(part: np.ndarray, sequences: list[str]) -> np.ndarray:
    """SPIN's keypoints (N, 24, 3) -> (N, 16, 2) float32: x / w * 2 - [1, h / w], zero where not visible."""
    width, height = np.array([SIZES[name] for name in sequences], float).T
    part = part[:, SPIN_JOINTS].astype(float)
    corner = np.stack((np.ones_like(width), height / width), -1)
    points = part[..., :2] / width[:, None, None] * 2 - corner[:, None]
    return (points * part[..., 2:]).astype(np.float32)


def check_unit(poses: np.ndarray, file: Path) -> None:
    """Refuse poses (N, 16, 3) that are not of human size in metres."""
    size = np.median(np.linalg.norm(poses[:, H36M_16.index("head")] - poses[:, H36M_16.root], axis=-1))
    low, high = HIP_TO_HEAD
    if not low <= size <= high:
        raise InputError(
            f"{file}: the middle distance from hip to head in S is {size:.3g}; expected {low} to {high} metres (SPIN's "
            "unit): fetch the file again, or bring S to metres"
        )


if __name__ == "__main__":
    run_script(main)
