"""Human3.6M-layout files (VideoPose3D's) -> one `PoseSet` of flat tensors per split.

`data_3d_NAME.npz` holds `positions_3d`: subject -> action -> (T, 32, 3) metres, world frame.
`data_2d_NAME_KEYPOINTS.npz` holds `positions_2d`: subject -> action -> one (T, 17, 2) array in pixels per view, and
`metadata`. Poses come out in the camera frame (metres, absolute), joints in the order of the skeleton asked for.
"""

import ctypes
import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.camera import Camera, h36m_cameras, world_to_camera
from common.errors import InputError
from common.files.npz import load_npz
from common.h36m import action_label, canonical_action
from common.pose_set import PoseSet, Sequence, sequence_index
from common.skeleton import COCO_17, H36M_16, H36M_17, H36M_32, MPII_16, Skeleton, convert

log = logging.getLogger(__name__)

LAYOUTS_3D = (H36M_32, H36M_17, H36M_16)
LAYOUTS_2D = {"h36m": (H36M_17, H36M_16, H36M_32), "coco": (COCO_17,), "mpii": (MPII_16,)}  # by metadata's layout_name


def load_pose_set(
    data_dir: str | Path,
    dataset: str,
    keypoints: str,
    subjects: str | Iterable[str],
    actions: str | Iterable[str] = "*",
    views: Iterable[int] | None = None,
    subset: float = 1.0,
    downsample: int = 1,
    skeleton: Skeleton = H36M_17,
    device: str | torch.device = "cpu",
    exact_actions: bool = False,
) -> PoseSet:
    """Read one split. The synthetic set must have been made (`common.synthetic.dataset.ensure`).

    Args:
        subjects, actions: lists, or text with commas; for actions, and `exact_actions`, see `select_actions`.
        views: camera numbers, None for all.
        subset, downsample: see `frame_window`.
        skeleton: the joints to deliver; both files are converted to it by joint name.

    Raises:
        InputError: a file is missing or damaged, a name unknown, a length, joint count or value wrong.
    """
    source = _read_source(*find_files(Path(data_dir), dataset, keypoints), _names(subjects), dataset)
    clips, start = [], 0
    for subject, action in source.pairs(actions, exact_actions):
        for view in source.views(subject, action, views):
            frames = frame_window(source.paired_length(subject, action, view), subset, downsample)
            if frames:
                camera = source.cameras[subject][view]
                clips.append(_Clip(Sequence(subject, action, view, start, len(frames), camera, dataset), frames))
                start += len(frames)
    if not clips:
        raise InputError(f"no poses left: --subset {subset} --downsample {downsample} leave no frame")
    with _one_thread():
        points_2d, points_3d = _fill(source, clips, skeleton)
    sequences = tuple(clip.sequence for clip in clips)
    frames = [torch.arange(c.frames.start, c.frames.stop, c.frames.step, dtype=torch.int32) for c in clips]
    return PoseSet(points_2d, skeleton, sequences, sequence_index(sequences), torch.cat(frames), points_3d).to(device)


@dataclass(frozen=True)
class _Clip:
    """A sequence to be, and its frames in the source."""

    sequence: Sequence
    frames: range

    @property
    def rows(self) -> slice:
        return slice(self.sequence.start, self.sequence.start + self.sequence.length)

    @property
    def window(self) -> slice:
        return slice(self.frames.start, self.frames.stop, self.frames.step)


def _fill(source: "_Source", clips: list[_Clip], skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Keypoints (N, J, 2) and camera-frame poses (N, J, 3), written in place; the source is freed along the way."""
    total = clips[-1].rows.stop
    points_2d, points_3d = torch.empty(total, skeleton.num_joints, 2), torch.empty(total, skeleton.num_joints, 3)
    for (subject, action), group in groupby(clips, key=lambda clip: clip.sequence[:2]):
        world = _converted(source.poses[subject].pop(action), source.layout_3d, skeleton)
        pixels = source.keypoints[subject].pop(action)
        for clip in group:
            camera = clip.sequence.camera
            points_2d[clip.rows] = _converted(pixels[clip.sequence.view][clip.window], source.layout_2d, skeleton)
            points_3d[clip.rows] = world_to_camera(
                world[clip.window], torch.tensor(camera.orientation), torch.tensor(camera.translation)
            )
            _check_finite(points_2d[clip.rows], clip, source.file_2d)
            _check_finite(points_3d[clip.rows], clip, source.file_3d)
        del world, pixels
        _trim_memory()
    return points_2d, points_3d


def _converted(points: np.ndarray, layout: Skeleton, skeleton: Skeleton) -> Tensor:
    """Points (T, J, D) in another joint layout, float32, in memory of their own."""
    return torch.from_numpy(np.ascontiguousarray(convert(points, layout, skeleton), dtype=np.float32))


def _trim_memory() -> None:
    """Give freed blocks back to the system: glibc keeps those of the files' arrays, 400 MB for Human3.6M."""
    with suppress(AttributeError, OSError, TypeError):  # other C libraries do not need it, or have no such call
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch on one thread: hundreds of small operations lose more time meeting than they gain by sharing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_finite(points: Tensor, clip: _Clip, file: Path) -> None:
    """Refuse NaN and infinity in (T, J, D) by name of the first frame."""
    if points.sum().isfinite():  # one quick pass; a bad value anywhere spoils the sum
        return
    finite = points.isfinite().all(-1).all(-1)
    if not finite.all():
        seq, frame = clip.sequence, clip.frames[int(finite.int().argmin())]
        raise InputError(
            f"NaN or infinity in {file}: subject {seq.subject}, action {seq.action}, view {seq.view}, frame {frame} "
            f"({int((~finite).sum())} bad frames in this sequence); repair the file or choose other actions"
        )


@dataclass
class _Source:
    """What the two files hold for the subjects asked for, action names levelled; nothing converted yet."""

    file_3d: Path
    file_2d: Path
    poses: dict[str, dict[str, np.ndarray]]
    keypoints: dict[str, dict[str, list[np.ndarray]]]
    layout_3d: Skeleton
    layout_2d: Skeleton
    # S11's video of Directions is damaged in Human3.6M: the field leaves it out, or has fewer detections than poses.
    broken: tuple[tuple[str, str], ...] = ()
    cameras: dict[str, tuple[Camera, ...]] = field(default_factory=h36m_cameras)

    def pairs(self, actions: str | Iterable[str], exact: bool) -> list[tuple[str, str]]:
        """(subject, action) in the order of the subjects and of the 2D file; what only one file has is left out."""
        trees = (*self.keypoints.values(), *self.poses.values())
        chosen = select_actions(dict.fromkeys(action for tree in trees for action in tree), actions, exact)
        pairs = []
        for subject, views in self.keypoints.items():
            poses = self.poses[subject]
            for action in sorted(chosen & (poses.keys() ^ views.keys())):
                self._unpaired(subject, action, has_3d=action in poses)
            pairs += [(subject, action) for action in views if action in chosen and action in poses]
        if not pairs:
            raise InputError(f"{', '.join(self.keypoints)}: no action in both {self.file_2d} and {self.file_3d.name}")
        return pairs

    def _unpaired(self, subject: str, action: str, has_3d: bool) -> None:
        if self._is_broken(subject, action):
            return
        if has_3d:
            raise InputError(
                f"{self.file_2d} has no keypoints of subject {subject}, action {action}, but {self.file_3d.name} has "
                "its poses: make the keypoints again or choose other actions"
            )
        log.warning("%s %s left out: %s has no poses for it", subject, action, self.file_3d)

    def _is_broken(self, subject: str, action: str) -> bool:
        return (subject, action_label(action)) in self.broken

    def views(self, subject: str, action: str, wanted: Iterable[int] | None) -> list[int]:
        """The views of an action that are asked for; as many arrays as cameras must be there."""
        found, cameras = len(self.keypoints[subject][action]), len(self.cameras[subject])
        if found != cameras:
            raise InputError(
                f"{self.file_2d} has {found} views of subject {subject}, action {action}; expected {cameras}"
            )
        wanted = range(cameras) if wanted is None else sorted(set(wanted))
        for view in wanted:
            if view not in range(cameras):
                raise InputError(f"unknown view {view}; there are views 0 to {cameras - 1}")
        return list(wanted)

    def paired_length(self, subject: str, action: str, view: int) -> int:
        """Frames that both files have. Detections go on after the last pose; they must not end before it."""
        poses, keypoints = self.poses[subject][action], self.keypoints[subject][action][view]
        if len(keypoints) < len(poses):
            lengths = f"subject {subject}, action {action}, view {view} has {len(keypoints)} frames, {len(poses)} poses"
            if not self._is_broken(subject, action):
                raise InputError(f"2D shorter than 3D: {lengths}; do {self.file_2d} and {self.file_3d.name} match?")
            log.warning("2D shorter than 3D, cut to it: %s", lengths)
        return min(len(keypoints), len(poses))


def _read_source(file_3d: Path, file_2d: Path, subjects: list[str], dataset: str) -> _Source:
    """Read both files and check what is in them: subjects, cameras, shapes."""
    arrays = load_npz(file_3d, required=("positions_3d",))
    poses = _by_subject(arrays.pop("positions_3d"), subjects, file_3d, "positions_3d")
    arrays = load_npz(file_2d, required=("positions_2d",))
    keypoints = _by_subject(arrays.pop("positions_2d"), subjects, file_2d, "positions_2d")
    without = [subject for subject in subjects if subject not in h36m_cameras()]
    if without:
        raise InputError(f"no camera calibration for {', '.join(without)}; there is for: {', '.join(h36m_cameras())}")
    metadata = arrays.get("metadata")
    name = str(metadata.get("layout_name", "h36m")) if isinstance(metadata, dict) else "h36m"
    if name not in LAYOUTS_2D:
        raise InputError(f"{file_2d} names the joint layout {name!r}; known: {', '.join(LAYOUTS_2D)}")
    return _Source(
        file_3d,
        file_2d,
        poses,
        keypoints,
        _layout(poses, LAYOUTS_3D, 3, file_3d),
        _layout(keypoints, LAYOUTS_2D[name], 2, file_2d),
        broken=(("S11", "Directions"),) if dataset.startswith("h36m") else (),
    )


def _by_subject(data: Any, subjects: list[str], file: Path, key: str) -> dict[str, dict[str, Any]]:
    """The wanted subjects of subject -> action -> data, in the order wanted, action names levelled."""
    if not isinstance(data, dict) or not all(isinstance(actions, dict) for actions in data.values()):
        raise InputError(f"{file}: {key} is not a dict of subject -> action -> data (VideoPose3D's layout)")
    unknown = [subject for subject in subjects if subject not in data]
    if unknown or not subjects:
        raise InputError(f"unknown subject {', '.join(unknown) or repr('')}; {file} has: {', '.join(map(str, data))}")
    levelled = {name: {canonical_action(str(action)): data[name][action] for action in data[name]} for name in subjects}
    for subject, actions in levelled.items():
        if len(actions) < len(data[subject]):
            raise InputError(f"{file}: subject {subject} has one action under two names: {', '.join(data[subject])}")
    return levelled


def _layout(tree: dict[str, dict[str, Any]], layouts: tuple[Skeleton, ...], dims: int, file: Path) -> Skeleton:
    """The one joint layout, among those possible, of every array in subject -> action -> array or views."""
    found = None
    for subject, actions in tree.items():
        for action, value in actions.items():
            several = dims == 2 and isinstance(value, (list, tuple, np.ndarray))
            for view, points in enumerate(value if several else [value]):
                where = f"{file}: subject {subject}, action {action}" + (f", view {view}" if dims == 2 else "")
                if not isinstance(points, np.ndarray) or points.dtype.kind not in "fiu" or points.ndim != 3:
                    raise InputError(f"{where} is not a number array (frames, joints, {dims})")
                if points.shape[2] != dims:
                    raise InputError(f"{where} has shape {points.shape}; expected (frames, joints, {dims})")
                found = found or next((known for known in layouts if known.num_joints == points.shape[1]), None)
                if found is None or points.shape[1] != found.num_joints:
                    names = " or ".join(known.name for known in ([found] if found else layouts))
                    raise InputError(f"{where} has {points.shape[1]} joints; expected the layout {names}")
    if found is None:
        raise InputError(f"{file} has no actions for {', '.join(tree)}")
    return found


def find_files(data_dir: Path, dataset: str, keypoints: str) -> tuple[Path, Path]:
    """The 3D and the 2D file of a data set.

    Raises:
        InputError: one is missing: which, where it was looked for, which keypoints there are, how to get the file.
    """
    file_3d = data_dir / f"data_3d_{dataset}.npz"
    file_2d = data_dir / f"data_2d_{dataset}_{keypoints}.npz"
    missing = [path.name for path in (file_3d, file_2d) if not path.exists()]
    if not missing:
        return file_3d, file_2d
    prefix = f"data_2d_{dataset}_"
    others = sorted(path.stem.removeprefix(prefix) for path in data_dir.glob(f"{prefix}*.npz"))
    found = f"; keypoints found there for {dataset}: {', '.join(others)}" if others else ""
    if dataset == "synthetic":
        raise InputError(f"{missing[0]}: the synthetic data set has no such keypoints{found}")
    how = "put the files there or name their folder with --data-dir"
    if dataset == "h36m":
        how += "; VideoPose3D's DATASETS.md tells how to get and prepare Human3.6M"
    raise InputError(
        f"{' and '.join(missing)} not found in {data_dir.absolute()}{found}; {how}; -d synthetic -k gt needs no files"
    )


def select_actions(available: Iterable[str], wanted: str | Iterable[str] = "*", exact: bool = False) -> set[str]:
    """The actions that a request means; upper and lower case alike.

    "*" is all; any other name means every action that begins with it, as published (ITES, VideoPose3D): "Walking 1" is
    that take, "Walking" all its takes, "Walk" also WalkDog and WalkTogether, and "Sitting", a quirk, SittingDown too.
    With `exact` (PoseAug) a name means the action of just that name, all its takes, or one take.

    Raises:
        InputError: a name that fits nothing; the actions that there are.
    """
    available, chosen = list(available), set()
    for name in _names(wanted):
        key = canonical_action(name).lower()
        found = [action for action in available if name == "*" or _fits(action.lower(), key, exact)]
        if not found:
            there = ", ".join(dict.fromkeys(action_label(action) for action in available))
            raise InputError(f"unknown action {name!r}; there are: {there}")
        chosen.update(found)
    return chosen


def _fits(action: str, key: str, exact: bool) -> bool:
    """Whether a request fits an action, both in small letters."""
    return key in (action, action_label(action)) if exact else action.startswith(key)


def deterministic_random(low: int, high: int, text: str) -> int:
    """A whole number in [low, high) that depends on `text` alone (VideoPose3D's choice of a subset)."""
    digest = hashlib.sha256(text.encode()).digest()
    return low + int(int.from_bytes(digest[:4], "little") / (2**32 - 1) * (high - low))


def frame_window(length: int, subset: float = 1.0, downsample: int = 1) -> range:
    """Which frames of a sequence are used: a contiguous share `subset`, placed by the length, every `downsample`-th."""
    if not 0 < subset <= 1:
        raise InputError(f"--subset is {subset}; expected a share in (0, 1]")
    if downsample < 1:
        raise InputError(f"--downsample is {downsample}; expected 1 or more")
    if subset == 1:
        return range(0, length, downsample)
    count = round(length // downsample * subset) * downsample
    start = deterministic_random(0, length - count + 1, str(length))
    return range(start, start + count, downsample)


def _names(text: str | Iterable[str]) -> list[str]:
    """Names from a list or from text with commas, each once."""
    parts = text.split(",") if isinstance(text, str) else text
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))
