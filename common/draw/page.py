"""Pages for the browser: 3D poses of several methods and the truth, to turn, play and compare; one HTML file.

The file holds all it needs (`page.html` is its template) and opens from the disk without a network. Colours, floor and
camera are those of the other pictures (`common.draw.colours`, `common.draw.scene`). Positions are kept as 16-bit
numbers: a thousand frames of three bodies with 17 joints take half a megabyte.
"""

import base64
import html
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.draw.colours import COLOURS, FLOOR, GRID, INK, PAPER, SHADOW
from common.draw.scene import FROM_ABOVE, PLACES, as_array, camera_azimuth, check_points, drawn_bones, side_of, to_z_up
from common.errors import InputError
from common.files.atomic import atomic_path
from common.pose_set import PoseSet
from common.pose_set import Sequence as Recording
from common.skeleton import Skeleton

TEMPLATE = Path(__file__).with_name("page.html")
FRAMES = ("world", "camera")
LONGEST = 3000  # frames of a recording on a page
MISSING, LARGEST = -32768, 32000  # the code of a missing joint, and that of the one furthest from the middle
PICTURES, ONE_SIDE, MANY_SIDE = 120, 960, 400  # most pictures of a video, and the longer sides, pixels
PALETTES = {
    "light": {
        "paper": PAPER, "ink": INK, "floor": FLOOR, "grid": GRID, "shadow": SHADOW, **COLOURS,
        "methods": ("#009e73", "#b0509a", "#8a6d00", "#5b4fc4"),
    },
    "dark": {
        "paper": "#16191c", "ink": "#eceff1", "floor": "#22272b", "grid": "#485057", "shadow": "#13171a",
        "left": "#56b4e9", "right": "#ff8a3d", "centre": "#b8bfc5",
        "methods": ("#3fd6a4", "#eba0d2", "#f0e442", "#aaa2ff"),
    },
}  # fmt: skip
# The scripts' option, a row for `common.run.options.Parser.add_table`.
VIS_HTML = (
    "--vis-html", Path, None,
    "write a page for the browser: the 3D poses of a sequence to turn, play and compare with the truth", "FILE",
)  # fmt: skip


class Lazy(Sequence):
    """`count` pictures, each made by `get(i)` when it is asked for."""

    def __init__(self, count: int, get: Callable[[int], Any]):
        self.count, self.get = count, get

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.get(index)


def write_recording(
    path,
    pose_set: PoseSet,
    recording: Recording,
    predicted: Mapping[str, Any],
    target,
    fps: float,
    errors: Mapping[str, Any] | None = None,
    metric: str = "MPJPE",
    about: str = "",
) -> Path:
    """Write the page of one sequence of a `PoseSet`; `rows` says which of its items.

    Args:
        predicted: method -> (T, J, 3), metres, camera frame, root-relative.
        target: true poses, (T, J, 3), likewise.
        fps: frames per second.
        errors: method -> (T,), mm; `metric` names it.
        about: how the poses were made comparable, under the title.
    """
    chosen = rows(recording)
    orientation = recording.camera.orientation
    count = chosen.stop - chosen.start
    length = f"{count:,} frames" if count == recording.length else f"first {count:,} of {recording.length:,} frames"
    return write_page(
        path, {**predicted, "truth": target}, pose_set.skeleton, keypoints=pose_set.keypoints[chosen], fps=fps,
        errors=errors, title=f"{', '.join(predicted)}: {recording.subject} {recording.action}, camera {recording.view}",
        frame="camera", orientation=orientation, metric=metric, about=f"{length}; {about}" if about else length,
    )  # fmt: skip


def rows(recording: Recording) -> slice:
    """The items of a sequence that its page shows: the first `LONGEST`."""
    return slice(recording.start, recording.start + min(recording.length, LONGEST))


def write_page(
    path, sequences: Mapping[str, Any], skeleton: Skeleton | Mapping[str, Skeleton], keypoints=None, image=None,
    fps: float = 25.0, errors=None, title: str = "3D human pose", *, frame: str = "world", orientation=None,
    skeleton_2d: Skeleton | None = None, flat_title: str = "2D input", metric: str = "MPJPE", unit: str | None = "m",
    place: str = "root", truth: str = "truth", about: str = "",
) -> Path:  # fmt: skip
    """Write a sequence as one HTML file that needs neither network nor other files.

    Args:
        sequences: name -> poses (T, J, 3), in `frame`; may be empty where there are keypoints. NaN: a missing joint.
        skeleton: of all poses, or name -> skeleton.
        keypoints: (T, J, 2), pixels, y down; or name -> (T, J, 2), where a name of `sequences` shows and hides both.
        image: a picture or T of them (Pillow images or uint8 arrays (H, W, 3)), on whose pixels the keypoints lie.
            They are kept small: at most 120 of a video, evenly spread.
        fps: frames per second.
        errors: name -> (T,), mm; or (T,), of the first sequence. `metric` names it.
        title, about: the heading, and a line under it (data, protocol).
        frame: "world": z up; "camera": x right, y down, z forward, turned upright with `orientation` (quaternion wxyz,
            camera to world, (4,); None: the camera is level). A rotation only: left stays left.
        skeleton_2d: of the keypoints, if it is another one; flat_title: what the 2D panel shows.
        unit: of the poses, "m"; None where they have none.
        place: "root", "floor" or "world", as in `draw.save_animation`; can be changed in the page.
        truth: the name that is drawn as a broad pale body behind the others, and stands on the floor.

    Returns:
        The path written; the file appears only when it is complete. Positions are rounded to 1/64000 of each
        sequence's extent (0.03 mm for 2 m); the page states it.

    Raises:
        InputError: shapes that do not fit, unknown frame or place, not .html, folder not writable.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"cannot write {path}: a page for the browser ends in .html, found {path.suffix!r}")
    if frame not in FRAMES or place not in PLACES or not (math.isfinite(fps) and fps > 0):
        raise InputError(
            f"found frame {frame!r}, place {place!r}, fps {fps}; expected one of {', '.join(FRAMES)}; one of "
            f"{', '.join(PLACES)}; above 0"
        )
    skeletons = {name: skeleton[name] if isinstance(skeleton, Mapping) else skeleton for name in sequences}
    poses = {name: check_points(f"poses {name!r}", p, skeletons[name], (3,)) for name, p in sequences.items()}
    flat_skeleton = skeleton_2d or next(iter(skeleton.values()) if isinstance(skeleton, Mapping) else iter([skeleton]))
    flat = _keypoints(keypoints, flat_title, flat_skeleton)
    frames = _length({**{f"2D {name}": points for name, points in flat.items()}, **poses})
    errors = _errors(errors, [*poses, *flat], frames)
    if frame == "camera":
        poses = {name: to_z_up(pose, orientation) for name, pose in poses.items()}
    files, every = _pictures(image, frames)
    content = {
        "frames": frames, "fps": fps, "unit": unit, "metric": metric, "place": place, "about": about,
        "flat_title": flat_title, "missing": MISSING, "elevation": FROM_ABOVE, "palettes": PALETTES,
        "azimuth": camera_azimuth(orientation) if frame == "camera" and orientation is not None else 0.0,
        "pictures": files, "every": every, **_methods(poses, flat, skeletons, flat_skeleton, errors, truth, unit),
    }  # fmt: skip
    _write(path, content, title)
    return path


def _write(path: Path, content: dict[str, Any], title: str) -> None:
    """The template with its content."""
    # "<" never appears in the JSON, so that no name can end the script element that holds it
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    before, after = TEMPLATE.read_text(encoding="utf-8").split("__DATA__")
    before = before.replace("__TITLE__", html.escape(title))
    with atomic_path(path) as temporary:
        temporary.write_text(before + text + after, encoding="utf-8")


# ------------------------------------------------------------ input


def _keypoints(keypoints, title: str, skeleton: Skeleton) -> dict[str, np.ndarray]:
    if keypoints is None:
        return {}
    named = keypoints if isinstance(keypoints, Mapping) else {title: keypoints}
    return {name: check_points(f"keypoints {name!r}", points, skeleton, (2,)) for name, points in named.items()}


def _length(arrays: Mapping[str, np.ndarray]) -> int:
    """The number of frames that all have."""
    if not arrays:
        raise InputError("found neither poses nor keypoints; a page needs at least one sequence")
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name!r} {count}" for name, count in lengths.items())
        raise InputError(f"sequences of different lengths in frames: {found}; cut them to the same frames")
    return next(iter(lengths.values()))


def _errors(errors, names: Sequence[str], frames: int) -> dict[str, np.ndarray]:
    """Errors by method, each (T,)."""
    if errors is None:
        return {}
    if not isinstance(errors, Mapping):
        errors = {names[0]: errors}
    errors = {name: as_array(values) for name, values in errors.items()}
    for name, values in errors.items():
        if name not in names or values.shape != (frames,):
            raise InputError(
                f"errors of {name!r}: found shape {values.shape}, expected ({frames},), one per frame, of one of "
                f"{', '.join(names)}"
            )
    return errors


def _pictures(image, frames: int) -> tuple[list[dict[str, Any]], int]:
    """The pictures as small JPEG files, with their true sizes, and how many frames each stands for."""
    if image is None:
        return [], 1
    single = isinstance(image, Image.Image) or (isinstance(image, np.ndarray) and image.ndim == 3)
    images = [image] if single else image
    if len(images) not in (1, frames):
        raise InputError(f"found {len(images)} images for {frames} frames; give one, or one for each frame")
    every = math.ceil(len(images) / PICTURES)
    side = ONE_SIDE if len(images) == 1 else MANY_SIDE
    return [_picture(images[i], side) for i in range(0, len(images), every)], every


def _picture(image, side: int) -> dict[str, Any]:
    if isinstance(image, np.ndarray) and (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3):
        raise InputError(f"image: found {image.dtype} {image.shape}, expected uint8 (height, width, 3)")
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    small, file = picture.convert("RGB"), io.BytesIO()
    small.thumbnail((side, side))
    small.save(file, format="jpeg", quality=80)
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return {"width": picture.width, "height": picture.height, "url": url}


# ------------------------------------------------------------ content


def _methods(
    poses: Mapping[str, np.ndarray],
    flat: Mapping[str, np.ndarray],
    skeletons: Mapping[str, Skeleton],
    flat_skeleton: Skeleton,
    errors: Mapping[str, np.ndarray],
    truth: str,
    unit: str | None,
) -> dict[str, Any]:
    """What is shown, by name: positions, skeletons and errors; and the words on their precision."""
    known = list(dict.fromkeys((*skeletons.values(), flat_skeleton)))
    packed = {name: _pack(pose) for name, pose in poses.items()}
    names = list(dict.fromkeys((*poses, *flat)))
    hues = {name: i for i, name in enumerate(name for name in names if name != truth)}
    return {
        "precision": _precision(packed, unit), "skeletons": [_skeleton(s) for s in known],
        "methods": [
            {
                "name": name, "truth": name == truth, "hue": hues.get(name, 0), "pose": packed.get(name),
                "skeleton": known.index(skeletons.get(name, flat_skeleton)),
                "flat": _pack(flat[name]) if name in flat else None, "flat_skeleton": known.index(flat_skeleton),
                "errors": _text(errors[name].astype("<f4")) if name in errors else None,
            }
            for name in names
        ],
    }  # fmt: skip


def _pack(points: np.ndarray) -> dict[str, Any]:
    """Points (T, J, D) as 16-bit codes: point = centre + scale * code."""
    present = np.isfinite(points).all(-1)
    seen = points[present] if present.any() else np.zeros((1, points.shape[-1]))
    centre = (seen.min(0) + seen.max(0)) / 2
    scale = float(np.abs(seen - centre).max()) / LARGEST or 1.0
    codes = np.where(present[..., None], np.round((points - centre) / scale), MISSING)
    return {"centre": centre.tolist(), "scale": scale, "codes": _text(codes.astype("<i2"))}


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def _precision(packed: Mapping[str, dict[str, Any]], unit: str | None) -> str:
    """The page's words on the rounding of 3D positions."""
    if not packed:
        return ""
    worst = max(pose["scale"] for pose in packed.values()) / 2
    return (
        f"Positions are rounded to within {f'{1000 * worst:.2g} mm' if unit == 'm' else f'{worst:.2g} of their unit'}."
    )


def _skeleton(skeleton: Skeleton) -> dict[str, Any]:
    bones = drawn_bones(skeleton).tolist()
    return {
        "joints": skeleton.joints, "root": skeleton.root, "bones": bones,
        "bone_sides": [side_of(skeleton, *bone) for bone in bones],
        "joint_sides": [side_of(skeleton, j) for j in range(skeleton.num_joints)],
    }  # fmt: skip
