"""Files and folders of 2D detectors -> people by frame, as they have them.

Which JSON: `common.video.json_forms`. Which arrays: `common.video.arrays`. Nothing in a file is ever executed. Pixels,
y down.
"""

from collections.abc import Callable
from pathlib import Path

from common.errors import InputError
from common.files.atomic import natural
from common.files.reading import reading
from common.video.arrays import read_npy, read_npz
from common.video.json_forms import read_json
from common.video.numbering import with_gaps
from common.video.raw import RawKeypoints


def read_raw(path: str | Path) -> RawKeypoints:
    """Read a file, or a folder of files of one frame each.

    Raises:
        InputError: missing, damaged or unknown kind of file.
    """
    path = Path(path)
    if path.is_dir():
        with reading(path, "folder of keypoints"):
            return _read_folder(path)
    readers: dict[str, Callable[[Path], RawKeypoints]] = {".json": read_json, ".npz": read_npz, ".npy": read_npy}
    if not path.is_file():
        raise InputError(f"{path} does not exist (looked for {path.absolute()})")
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(readers)}")
    with reading(path, "file of keypoints"):
        return readers[path.suffix.lower()](path)


def json_files(folder: Path) -> list[Path]:
    """A folder's JSON in the order of the frames; without hidden files, such as macOS puts beside every file."""
    files = (file for file in folder.glob("*.json") if not file.name.startswith("."))
    return sorted(files, key=lambda file: natural(file.name))


def _read_folder(folder: Path) -> RawKeypoints:
    """OpenPose's output of a video, or MMPose's of images: one file for each frame."""
    files = json_files(folder)
    if not files:
        raise InputError(f"{folder} holds no .json files; expected OpenPose's, one for each frame")
    if len(files) == 1:
        return read_json(files[0])
    parts = [read_json(file) for file in files]
    if any(len(part.people) != 1 for part in parts):
        raise InputError(f"{folder}: a file with several frames among its .json files; expected one frame in each")
    layout = next((part.layout for part in parts if part.layout), None)
    pairs = [list(zip(part.people[0], part.scores[0] if part.scores else [], strict=False)) for part in parts]
    pairs, frames = with_gaps(pairs, [file.stem for file in files], folder)
    people = [[points for points, _ in frame] for frame in pairs]
    return RawKeypoints(people, frames, layout, scores=[[score for _, score in frame] for frame in pairs])
