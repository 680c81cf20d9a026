"""Make PoseAug's MPI-INF-3DHP test file, test_3dhp.npz, from the file of the same test set that SPIN published.

python data/prepare_data_3dhp.py --source mpi_inf_3dhp_valid.npz [--data-dir data] [--force]

SPIN's data sets (github.com/nkolot/SPIN, fetch_data.sh: dataset_extras/mpi_inf_3dhp_valid.npz) hold the 2,929 valid
frames of the test sequences TS1 to TS6 in SPIN's 24 joints. Keys read:
    imgname  (N,) text, ".../TS1/imageSequence/img_000001.jpg": the sequence gives the size of the picture
    part     (N, 24, 3): x and y in pixels, and 1 where the joint is visible, else 0
    S        (N, 24, 4): x, y, z in metres, camera frame, relative to the pelvis; the fourth column is not read
The keys center and scale (boxes around the person) are not read.

Writes DATA_DIR/data_extra/test_set/test_3dhp.npz: pose3d (2929, 16, 3) metres, pose2d (2929, 16, 2) screen-normalised,
zero where a joint is not visible.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.datasets.mpi_inf_3dhp import TEST_SET  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.npz import load_npz, save_npz  # noqa: E402
from common.run.options import Parser  # noqa: E402
from common.run.script import run_script  # noqa: E402
from common.skeleton import H36M_16  # noqa: E402

ITEMS = 2929
# SPIN's joint in each place of the 16-joint layout: pelvis, right and left leg from the hip, H36M's spine, LSP's neck,
# H36M's head, left and right arm from the shoulder.
SPIN_JOINTS = (14, 2, 1, 0, 3, 4, 5, 16, 12, 18, 9, 10, 11, 8, 7, 6)
SQUARE, WIDE = (2048, 2048), (1920, 1080)  # pixels
SIZES = {"TS1": SQUARE, "TS2": SQUARE, "TS3": SQUARE, "TS4": SQUARE, "TS5": WIDE, "TS6": WIDE}
HIP_TO_HEAD = (0.3, 1.0)  # metres in which the middle of all hip-head distances must lie

OPTIONS = (
    ("--source", Path, ..., "SPIN's mpi_inf_3dhp_valid.npz", "FILE.npz"),
    ("--data-dir", Path, Path(__file__).parent, "where the file goes", "DIR"),
    ("--force", bool, False, "make the file again if it is there"),
)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Data", OPTIONS)
    args = parser.parse_args()
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
