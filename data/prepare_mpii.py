"""Make mpii_poses.npy, the 2D poses that the adversarial lifter learns from, from MPII's published annotations.

python data/prepare_mpii.py --source annot/train.json annot/valid.json [--data-dir data] [--spine middle] [--force]
python data/prepare_mpii.py --source mpii_human_pose_v1_u12_1.mat

Sources, told apart by their suffix:
    .json  a list of people; of each, `joints` (16, 2) in pixels is read. A joint that is not annotated stands at
           (-1, -1) or (0, 0): x and y not above 0. `joints_vis` is not read: hidden joints are annotated too.
    .mat   the release's file (annolist.annorect.annopoints.point with x, y, id); needs SciPy.
           A joint that is not annotated has no point.

Writes DATA_DIR/mpii_poses.npy: (N, 34) float32, x0 y0 x1 y1 ... in pixels, 17 joints in Human3.6M order, one row for
each person with all 16 joints, in the order of the sources.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

import numpy as np  # noqa: E402

from common.datasets.poses_2d import MPII_FILE  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.atomic import write_atomic  # noqa: E402
from common.files.reading import load_json  # noqa: E402
from common.run.options import Parser  # noqa: E402
from common.skeleton import H36M_17, MPII_16  # noqa: E402
from common.video.read import h36m_matrix  # noqa: E402

JOINTS = MPII_16.num_joints

OPTIONS = (
    ("--source", Path, ..., "train.json valid.json, or the .mat", "FILE", {"nargs": "+"}),
    ("--data-dir", Path, Path(__file__).parent, "where the file goes", "DIR"),
    ("--spine", ("middle", "thorax"), "middle",
     "middle: between hip and thorax, as in Human3.6M; thorax: MPII's thorax, as in the published file"),
    ("--force", bool, False, "make the file again if it is there"),
)  # fmt: skip


def main() -> None:
    parser = Parser(__doc__)
    parser.add_table("Data", OPTIONS)
    args = parser.parse_args()
    target = args.data_dir / MPII_FILE
    if target.exists() and not args.force:
        print(f"{target} is there already: nothing done (--force makes it again)")
        return
    people = [read_people(file) for file in args.source]
    for file, found in zip(args.source, people, strict=True):
        print(f"{file.name}: {len(found):,} people, {complete(found).sum():,} with all {JOINTS} joints")
    joints = np.concatenate(people)
    whole = complete(joints)
    if not whole.any():
        raise InputError(f"{', '.join(map(str, args.source))}: nobody has all {JOINTS} joints; other files?")
    poses = to_h36m(joints[whole], args.spine).reshape(-1, 2 * H36M_17.num_joints)
    write_atomic(target, lambda file: np.save(file, poses))
    print(missing_line(joints))
    print(f"{target}  {len(poses):,} poses, {H36M_17.num_joints} joints, {target.stat().st_size / 1e6:.1f} MB")


def complete(joints: np.ndarray) -> np.ndarray:
    """(N, 16, 2), NaN where not annotated -> (N,) bool."""
    return np.isfinite(joints).all((1, 2))


def missing_line(joints: np.ndarray) -> str:
    """How many people were left out, and for want of which joints."""
    absent = ~np.isfinite(joints).all(-1)
    counts = sorted(zip(absent.sum(0).tolist(), MPII_16.joints, strict=True), key=lambda pair: -pair[0])
    named = ", ".join(f"{name} {count:,}" for count, name in counts[:4] if count)
    return f"left out: {absent.any(1).sum():,} people" + (f"; joints missing most: {named}" if named else "")


def to_h36m(joints: np.ndarray, spine: str = "middle") -> np.ndarray:
    """MPII's joints (N, 16, 2) -> (N, 17, 2) float32, Human3.6M order.

    As `video.layouts.h36m_matrix` says; with `spine` "thorax" MPII's thorax is the spine, as in the published file.
    """
    poses = h36m_matrix("mpii16") @ joints
    if spine == "thorax":
        poses[:, H36M_17.index("spine")] = joints[:, MPII_16.index("thorax")]
    return poses.astype(np.float32)


# ------------------------------------------------------------ reading


def read_people(file: Path) -> np.ndarray:
    """(N, 16, 2) float64 pixels, NaN where not annotated."""
    readers = {".json": read_json, ".mat": read_mat}
    if file.suffix.lower() not in readers:
        raise InputError(f"{file}: found {file.suffix or 'no suffix'}, expected MPII's annotations as .json or .mat")
    if not file.is_file():
        raise InputError(f"{file} does not exist (looked for {file.absolute()})")
    people = readers[file.suffix.lower()](file)
    if not len(people):
        raise InputError(f"{file} holds no annotated people; expected MPII's annotations")
    return people


def read_json(file: Path) -> np.ndarray:
    """People of the JSON list."""
    entries = load_json(file, "fetch it again")
    if not isinstance(entries, list):
        raise InputError(f"{file} holds a {type(entries).__name__}; expected a list of people with `joints`")
    joints = np.empty((len(entries), JOINTS, 2))
    for i, entry in enumerate(entries):
        joints[i] = _joints(entry, f"{file}, entry {i}")
    joints[~(joints > 0).any(-1)] = np.nan
    return joints


def _joints(entry: Any, where: str) -> np.ndarray:
    """`joints` of one person, checked."""
    if not isinstance(entry, dict) or "joints" not in entry:
        raise InputError(f"{where} has no `joints`; expected MPII's list of people")
    try:
        joints = np.array(entry["joints"], float)
    except (TypeError, ValueError):
        joints = np.empty(0)
    if joints.shape != (JOINTS, 2) or not np.isfinite(joints).all():
        raise InputError(f"{where}: `joints` is not {JOINTS} pairs of numbers, as in MPII's annotations")
    return joints


def read_mat(file: Path) -> np.ndarray:
    """People of the release's MATLAB file that have annotated joints."""
    release = load_mat(file).get("RELEASE")
    if not hasattr(release, "annolist"):
        raise InputError(f"{file} has no RELEASE.annolist; expected mpii_human_pose_v1_u12_1.mat")
    people = [person(rect, file) for image in _structs(release.annolist) for rect in _field(image, "annorect")]
    people = [joints for joints in people if joints is not None]
    return np.stack(people) if people else np.empty((0, JOINTS, 2))


def load_mat(file: Path) -> dict[str, Any]:
    """Variables of a MATLAB file, structures as objects with attributes."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError(f"reading {file.name} needs SciPy: pip install scipy, or give the .json files") from error
    try:
        return loadmat(file, struct_as_record=False, squeeze_me=True)
    except Exception as error:  # SciPy raises many kinds on a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise InputError(f"{file} cannot be read as a MATLAB file ({reason}): fetch it again") from error


def person(rect: Any, file: Path) -> np.ndarray | None:
    """Joints (16, 2) of one `annorect`, NaN where there is no point; None for a box without points."""
    joints = np.full((JOINTS, 2), np.nan)
    for points in _field(rect, "annopoints"):
        for point in _field(points, "point"):
            try:
                joint, x, y = int(point.id), float(point.x), float(point.y)
            except (AttributeError, TypeError, ValueError) as error:
                raise InputError(f"{file}: a point of annopoints has no single id, x and y: fetch it again") from error
            if joint not in range(JOINTS):
                raise InputError(f"{file}: found joint id {joint}; MPII's run from 0 to {JOINTS - 1}")
            joints[joint] = x, y
    return joints if np.isfinite(joints).any() else None


def _field(struct: Any, name: str) -> Iterator[Any]:
    return _structs(getattr(struct, name, ()))


def _structs(value: Any) -> Iterator[Any]:
    """MATLAB's structures: SciPy gives one, an array of them, or an empty array of numbers for none."""
    return (item for item in np.atleast_1d(np.asarray(value, object)).ravel() if hasattr(item, "_fieldnames"))


if __name__ == "__main__":
    run_script(main)
