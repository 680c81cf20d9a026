"""Make Human3.6M's files, data_3d_h36m.npz and data_2d_h36m_gt.npz, in VideoPose3D's layout.

python data/prepare_data_h36m.py --from-source-cdf DIR    # as released: .cdf; needs cdflib
python data/prepare_data_h36m.py --from-source DIR        # the same, saved in MATLAB: .cdf.mat
python data/prepare_data_h36m.py --from-archive h36m.zip  # the .h5 archive of 3d-pose-baseline (Martinez et al. 2017)

DIR is where the archives Poses_D3_Positions_S*.tgz of vision.imar.ro/human3.6m are unpacked:
    DIR/S1/MyPoseFeatures/D3_Positions/Directions 1.cdf   variable Pose (1, T, 96), millimetres, world, z up
    DIR/S1/MyPoseFeatures/D3_Positions/Directions 1.cdf.mat   variable data: a cell with (T, 96)
    h36m.zip: h36m/S1/MyPoses/3D_positions/Directions 1.h5   array 3D_positions (96, T)

Writes to DATA_DIR: positions_3d, subject -> take -> (T, 32, 3) float32, metres, world; positions_2d, subject -> take ->
four arrays (T, 17, 2) float32, pixels, through the lenses of the four cameras; and metadata. 209 takes: 7 subjects,
15 actions, two takes of each, without S11's take "Directions", whose video is damaged. A file that is there is not made
again.
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run.entry import run_script  # noqa: E402

import numpy as np  # noqa: E402

from common.camera import h36m_cameras  # noqa: E402
from common.datasets import h36m_takes  # noqa: E402
from common.errors import InputError  # noqa: E402
from common.files.mat import load_mat  # noqa: E402
from common.files.npz import load_npz, save_npz  # noqa: E402
from common.run.options import Parser, add_rows  # noqa: E402
from common.skeleton import H36M_17, H36M_32, convert  # noqa: E402
from common.synthetic.dataset import project_views  # noqa: E402

FOLDERS = ("MyPoseFeatures/D3_Positions", "Poses_D3_Positions", "D3_Positions")  # as released; as h36m-fetch unpacks

SOURCES = (
    ("--from-source-cdf", Path, None, "released .cdf files", "DIR"),
    ("--from-source", Path, None, ".cdf.mat files", "DIR"),
    ("--from-archive", Path, None, ".h5 files, packed or in a folder", "h36m.zip"),
)
OPTIONS = (
    ("--data-dir", Path, Path(__file__).parent, "where the files go", "DIR"),
    ("--partial", bool, False, "write what there is if takes are missing"),
    ("--force", bool, False, "make the files again if they are there"),
)


def main() -> None:
    parser = Parser(__doc__)
    add_rows(parser.add_mutually_exclusive_group(required=True), SOURCES)
    parser.add_table("Data", OPTIONS)
    args = parser.parse_args()
    file_3d, file_2d = args.data_dir / h36m_takes.FILE_3D, args.data_dir / "data_2d_h36m_gt.npz"
    if file_3d.exists() and file_2d.exists() and not args.force:
        print(f"{file_3d} and {file_2d.name} are there already: nothing done (--force makes them again)")
        return
    if file_3d.exists() and not args.force:
        print(f"{file_3d} is there already: {file_2d.name} is made from it (--force makes both again)")
        poses = read_finished(file_3d)
    else:
        poses = read_poses(args)
        with contextlib.suppress(OSError):  # of other poses; if this run stops now, the next one makes it
            file_2d.unlink()
        save_npz(file_3d, positions_3d=poses)
        print(written(file_3d, poses))
    videos = {subject: project_takes(takes, subject) for subject, takes in poses.items()}
    print(h36m_takes.save_keypoints(file_2d, videos, "h36m", file_3d))


def read_poses(args: Any) -> h36m_takes.Takes:
    """All takes of the chosen source, checked and counted."""
    path = args.from_source_cdf or args.from_source or args.from_archive
    if not path.exists():
        raise InputError(f"{path} does not exist (looked for {path.absolute()})")
    gathered = h36m_takes.Gathered(path)
    if args.from_archive:
        read_archive(gathered)
    else:
        read_folder(gathered, ".cdf" if args.from_source_cdf else ".cdf.mat")
    poses = gathered.finish(args.partial)
    for subject, takes in poses.items():
        h36m_takes.check_people(takes, f"{path}, {subject}")
        print(f"{subject}: {len(takes)} takes, {sum(map(len, takes.values())):,} frames")
    return poses


def read_finished(file: Path) -> h36m_takes.Takes:
    """The poses of a data_3d_h36m.npz that is there, VideoPose3D's own included."""
    poses = load_npz(file, required=("positions_3d",))["positions_3d"]
    gathered = h36m_takes.Gathered(file)
    for subject, takes in poses.items() if isinstance(poses, dict) else ():
        for text, world in takes.items() if isinstance(takes, dict) else ():
            if name := gathered.wanted(str(subject), str(text)):
                shape = getattr(world, "shape", ())
                numbers = isinstance(world, np.ndarray) and world.dtype.kind == "f" and world.size
                if not numbers or len(shape) != 3 or shape[1:] != (H36M_32.num_joints, 3):
                    raise InputError(f"{file}: {subject} {text} has shape {shape}; expected (frames, 32, 3)")
                gathered.add_take(subject, name, world.astype(np.float32))
    return gathered.finish(partial=True)


def project_takes(takes: dict[str, np.ndarray], subject: str) -> dict[str, list[np.ndarray]]:
    """World joints (T, 32, 3) of each take -> pixels (T, 17, 2) in each of the subject's cameras."""
    cameras = h36m_cameras()[subject]
    return {
        name: project_views(np.ascontiguousarray(convert(world, H36M_32, H36M_17)), cameras)
        for name, world in takes.items()
    }


def written(file: Path, poses: h36m_takes.Takes) -> str:
    """The line on the 3D file, with the number of frames that the field's set has."""
    number = sum(map(len, poses.values()))
    frames = sum(len(world) for takes in poses.values() for world in takes.values())
    return (
        f"{file}  {number} takes, {frames:,} frames (the published set: {h36m_takes.FRAMES:,}), 32 joints, "
        f"{file.stat().st_size / 1e6:.1f} MB"
    )


# ------------------------------------------------------------ reading


def read_archive(gathered: h36m_takes.Gathered) -> None:
    """The .h5 files of h36m.zip."""
    pattern = r"(?P<subject>S\d+)/MyPoses/3D_positions/(?P<take>[^/.][^/]*)\.h5"
    for match, where, data in h36m_takes.archive_files(gathered.source, pattern):
        if name := gathered.wanted(match["subject"], match["take"]):
            values = h36m_takes.read_h5(data, "3D_positions", where)
            gathered.add_take(match["subject"], name, h36m_takes.poses_in_metres(values.T, where))


def read_folder(gathered: h36m_takes.Gathered, suffix: str) -> None:
    """The .cdf or .cdf.mat files of a folder."""
    read = {".cdf": read_cdf, ".cdf.mat": read_mat}[suffix]
    files = list(pose_files(gathered.source, suffix))
    if not files:
        other = ".cdf.mat" if suffix == ".cdf" else ".cdf"
        option = {".cdf": "--from-source-cdf", ".cdf.mat": "--from-source"}[other]
        hint = f"; there are {other} files: {option} reads them" if any(pose_files(gathered.source, other)) else ""
        raise InputError(f"{gathered.source} has no S1/{FOLDERS[0]}/*{suffix}{hint}")
    for subject, file in files:
        if name := gathered.wanted(subject, file.name.removesuffix(suffix)):
            gathered.add_take(subject, name, h36m_takes.poses_in_metres(read(file), str(file)))


def pose_files(folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    """(subject, file) of every file with the suffix in the subjects' folders of positions."""
    for subject in sorted(path for path in folder.glob("S*") if re.fullmatch(r"S\d+", path.name)):
        for place in FOLDERS:
            for file in sorted((subject / place).glob(f"[!._]*{suffix}")):
                yield subject.name, file


def read_mat(file: Path) -> Any:
    """The one cell of a .cdf.mat."""
    data = load_mat(file, required=("data",))["data"]
    if isinstance(data, list) and len(data) == 1:
        return data[0]
    if isinstance(data, list):
        raise InputError(f"{file}: data has {len(data)} cells; expected one, with the positions (frames, 96)")
    return data


def read_cdf(file: Path) -> Any:
    """The variable Pose of a .cdf."""
    try:
        import cdflib
    except ImportError as error:
        raise InputError(
            "reading .cdf files needs cdflib: pip install cdflib, or save them in MATLAB as .cdf.mat (--from-source)"
        ) from error
    try:
        return cdflib.CDF(str(file)).varget("Pose")
    except Exception as error:  # cdflib raises many kinds on a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise InputError(f"{file} cannot be read as CDF with a variable Pose ({reason}): fetch it again") from error


if __name__ == "__main__":
    run_script(main)
