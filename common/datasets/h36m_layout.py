"""Human3.6M-layout files (VideoPose3D's, and any data set's) -> one `PoseSet` of flat tensors per split.

`data_3d_NAME.npz` holds `positions_3d`: subject -> action -> (T, 32, 3) metres, world frame; and what the `contract`
says. `data_2d_NAME_KEYPOINTS.npz` holds `positions_2d`: subject -> action -> one (T, 17, 2) array in pixels per view,
or (T, 17, 3) with confidences, and `metadata`. Poses come out in the camera frame (metres, absolute), joints in the
order of the skeleton asked for. Without a 2D file "gt" and "noisy" are made of the poses.
"""

import ctypes
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.camera import Camera, world_to_camera
from common.datasets import sanity
from common.datasets.contract import LAYOUTS_3D, Contract, find_3d, layouts_2d, read_contract
from common.datasets.projected import MADE, Noise, disturb, see
from common.errors import InputError
from common.files.npz import load_npz
from common.h36m import action_label, canonical_action
from common.pose_set import PoseSet, Sequence, sequence_index
from common.skeleton import H36M_17, Skeleton, conversion_matrix, convert

log = logging.getLogger(__name__)

DEFAULT_NOISE = Noise()


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
    noise: Noise = DEFAULT_NOISE,
) -> PoseSet:
    """Read one split. The synthetic set must have been made (`common.synthetic.dataset.ensure`).

    Frames without a person, and those that lack a joint, are left out with a word about their number; what follows them
    is a sequence of its own.

    Args:
        subjects, actions: lists, or text with commas; for actions, and `exact_actions`, see `select_actions`.
        views: camera numbers, None for all.
        subset, downsample: see `frame_window`.
        skeleton: the joints to deliver; both files are converted to it by joint name.
        noise: of keypoints "noisy" that no file holds.

    Raises:
        InputError: a file is missing or damaged, a name unknown, a length, joint count or value wrong; poses or
            keypoints are in another unit or frame.
    """
    file_3d, file_2d = find_files(Path(data_dir), dataset, keypoints)
    source = _read_source(file_3d, file_2d, _names(subjects), dataset, skeleton)
    source.noise = noise if keypoints == "noisy" else None
    clips = []
    for subject, action in source.pairs(actions, exact_actions):
        for view in source.views(subject, action, views):
            frames = frame_window(source.paired_length(subject, action, view), subset, downsample)
            if frames:
                clips.append(_Clip(subject, action, view, source.contract.views(subject, action)[view], frames))
    if not clips:
        raise InputError(f"no poses left: --subset {subset} --downsample {downsample} leave no frame")
    with _one_thread():
        pose_set = _fill(source, clips, skeleton, dataset)
        odd = sanity.far_apart(pose_set) if file_2d else ""
    if odd:
        log.warning("%s and %s: %s", file_2d, file_3d.name, odd)
    return pose_set.to(device)


def load_keypoints(data_dir: str | Path, dataset: str, keypoints: str, skeleton: Skeleton = H36M_17) -> PoseSet:
    """Read `data_2d_NAME_KEYPOINTS.npz` alone, all subjects: a set without poses and cameras, as videos have it.

    Raises:
        InputError: as `load_pose_set`.
    """
    file = Path(data_dir) / f"data_2d_{dataset}_{keypoints}.npz"
    content = load_npz(file, required=("positions_2d",))
    tree = content.pop("positions_2d")
    tree = _by_subject(tree, list(tree) if isinstance(tree, dict) else [], file, "positions_2d")
    metadata, contract = content.get("metadata"), Contract(file)
    layout = _layout(tree, lambda joints: layouts_2d(metadata, file, contract, joints), 2, file)
    source = _Source(file, file, {}, tree, layout, layout, contract)
    clips = [
        _Clip(str(subject), action, view, None, range(len(points)))
        for subject, actions in tree.items() for action, views in actions.items() for view, points in enumerate(views)
    ]  # fmt: skip
    left_out = _LeftOut(sum(len(clip.frames) for clip in clips))
    kept, scores, sequences, numbers, end = [], [], [], [], 0
    for clip in clips:
        found = source.read(tree[clip.subject][clip.action], clip, skeleton)
        gone = left_out.add(clip, found.lost)
        _check_finite(found.keypoints, gone, clip, file)
        for run in _runs(gone, len(clip.frames)):
            kept.append(found.keypoints[run])
            scores.append(torch.ones(kept[-1].shape[:2]) if found.confidence is None else found.confidence[run])
            numbers.append(torch.arange(run.start, run.stop, dtype=torch.int32))
            sequences.append(Sequence(clip.subject, clip.action, clip.view, end, len(kept[-1]), None, dataset))
            sanity.check_pixels(kept[-1], f"{file}: {clip}")
            end += len(kept[-1])
    left_out.report(end)
    if not end:
        raise InputError(f"{file} has no frames")
    sequences = tuple(sequences)
    return PoseSet(
        torch.cat(kept), skeleton, sequences, sequence_index(sequences), torch.cat(numbers),
        confidence=torch.cat(scores) if source.has_confidence else None,
    )  # fmt: skip


def load_motion(
    data_dir: str | Path,
    dataset: str,
    subjects: str | Iterable[str],
    actions: str | Iterable[str] = "*",
    downsample: int = 1,
    skeleton: Skeleton = H36M_17,
    device: str | torch.device = "cpu",
    exact_actions: bool = False,
) -> PoseSet:
    """Read the motion of a split as it is in the world, for virtual cameras: a set without cameras whose `poses` are in
    the world frame, metres, z up, once for all views, and whose keypoints (N, J, 0) say nothing.

    Raises:
        InputError: as `load_pose_set`; cameras are not asked for.
    """
    file = find_3d(data_dir, dataset)
    if not file.is_file():
        find_files(Path(data_dir), dataset, "gt")  # says what is missing
    source = _read_source(file, None, _names(subjects), dataset, skeleton)
    poses, sequences, numbers, end = [], [], [], 0
    for subject, action in source.pairs(actions, exact_actions):
        world, lost = source.world(subject, action, skeleton)
        frames = frame_window(len(world), 1.0, downsample)
        gone = next((frame[frames.start : frames.stop : frames.step] for frame in lost.values()), None)
        clip = _Clip(subject, action, 0, None, frames)
        shown = world[clip.window]
        _check_finite(shown, gone, clip, file)
        for run in _runs(gone, len(shown)):
            poses.append(shown[run].clone())
            numbers.append(torch.arange(len(world), dtype=torch.int32)[clip.window][run])
            sequences.append(Sequence(subject, action, 0, end, len(poses[-1]), None, dataset))
            end += len(poses[-1])
    if not end:
        raise InputError(f"{file} has no frame with a person left")
    sequences, poses = tuple(sequences), torch.cat(poses)
    motion = PoseSet(poses[..., :0], skeleton, sequences, sequence_index(sequences), torch.cat(numbers), poses)
    return motion.to(device)


@dataclass(frozen=True)
class _Clip:
    """What one camera sees of an action, and which frames of it are asked for."""

    subject: str
    action: str
    view: int
    camera: Camera | None
    frames: range

    @property
    def window(self) -> slice:
        return slice(self.frames.start, self.frames.stop, self.frames.step)

    def __str__(self) -> str:
        return f"subject {self.subject}, action {self.action}, view {self.view}"


class _View(NamedTuple):
    """Keypoints (T, J, 2) of one camera, their confidence (T, J), and frames (T,) to leave out by the reason."""

    keypoints: Tensor
    confidence: Tensor | None = None
    lost: Mapping[str, np.ndarray] = MappingProxyType({})


def _fill(source: "_Source", clips: list[_Clip], skeleton: Skeleton, dataset: str) -> PoseSet:
    """The set, its tensors written in place, frames without a whole person left out; the source is freed on the way."""
    total, joints = sum(len(clip.frames) for clip in clips), skeleton.num_joints
    points_2d, points_3d = torch.empty(total, joints, 2), torch.empty(total, joints, 3)
    confidence = torch.ones(total, joints) if source.has_confidence else None
    sequences, numbers, left_out, end = [], [], _LeftOut(total), 0
    for (subject, action), group in groupby(clips, key=lambda clip: (clip.subject, clip.action)):
        world, lost = source.world(subject, action, skeleton)
        pixels = source.keypoints[subject].pop(action) if source.file_2d else None
        for clip in group:
            orientation, place = torch.tensor(clip.camera.orientation), torch.tensor(clip.camera.translation)
            pose = world_to_camera(world[clip.window], orientation, place)
            view = source.make(pose, clip, len(world)) if pixels is None else source.read(pixels, clip, skeleton)
            gone = left_out.add(clip, {why: frames[clip.window] for why, frames in lost.items()} | dict(view.lost))
            _check_finite(view.keypoints, gone, clip, source.file_2d)
            _check_finite(pose, gone, clip, source.file_3d)
            frames = torch.arange(clip.frames.start, clip.frames.stop, clip.frames.step, dtype=torch.int32)
            for run in _runs(gone, len(pose)):
                rows = slice(end, end + run.stop - run.start)
                points_2d[rows], points_3d[rows] = view.keypoints[run], pose[run]
                if view.confidence is not None:
                    confidence[rows] = view.confidence[run]
                sequences.append(Sequence(subject, action, clip.view, end, rows.stop - end, clip.camera, dataset))
                numbers.append(frames[run])
                if pixels is not None:
                    sanity.check_pixels(points_2d[rows], f"{source.file_2d}: {clip}")
                end = rows.stop
        del world, pixels
        _trim_memory()
    left_out.report(end)
    sequences = tuple(sequences)
    return PoseSet(
        points_2d[:end], skeleton, sequences, sequence_index(sequences), torch.cat(numbers), points_3d[:end],
        confidence=None if confidence is None else confidence[:end],
    )  # fmt: skip


class _LeftOut:
    """Count of the frames left out, for one line about them."""

    def __init__(self, total: int):
        self.total, self.reasons, self.first = total, Counter(), ""

    def add(self, clip: _Clip, lost: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The frames (T,) of a clip to leave out, for any of the reasons; None: none."""
        gone = None
        for why, frames in lost.items():
            frames = frames if gone is None else frames & ~gone
            if frames.any():
                self.reasons[why] += int(frames.sum())
                self.first = self.first or f"{clip}, frame {clip.frames[int(frames.argmax())]}"
                gone = frames if gone is None else gone | frames
        return gone

    def report(self, kept: int) -> None:
        """Say it; an InputError where nothing is left."""
        if not self.reasons:
            return
        reasons = ", ".join(f"{count:,} {why}" for why, count in self.reasons.items())
        text = f"{self.total - kept:,} of {self.total:,} frames left out: {reasons} (first: {self.first})"
        if not kept:
            raise InputError(f"{text}: no poses left")
        log.warning(text)


def _runs(gone: np.ndarray | None, length: int) -> list[slice]:
    """The frames that are not gone, in runs without a gap."""
    if gone is None:
        return [slice(0, length)]
    edges = np.flatnonzero(np.diff(np.concatenate(([True], gone, [True])).astype(np.int8)))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2).tolist()]


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


def _check_finite(points: Tensor, gone: np.ndarray | None, clip: _Clip, file: Path | None) -> None:
    """Refuse NaN and infinity in (T, J, D), but for frames that are gone, by name of the first frame."""
    if points.sum().isfinite():  # one quick pass; a bad value anywhere spoils the sum
        return
    finite = points.isfinite().all(-1).all(-1)
    finite = finite if gone is None else finite | torch.from_numpy(gone)
    if not finite.all():
        frame = clip.frames[int(finite.int().argmin())]
        raise InputError(
            f"NaN or infinity in {file}: {clip}, frame {frame} ({int((~finite).sum())} bad frames in this sequence); "
            "repair the file or choose other actions"
        )


@dataclass
class _Source:
    """What the files hold for the subjects asked for, action names levelled; nothing converted yet."""

    file_3d: Path
    file_2d: Path | None  # None: keypoints are made of the poses
    poses: dict[str, dict[str, np.ndarray]]
    keypoints: dict[str, dict[str, list[np.ndarray]]]
    layout_3d: Skeleton
    layout_2d: Skeleton
    contract: Contract
    # S11's video of Directions is damaged in Human3.6M: the field leaves it out, or has fewer detections than poses.
    broken: tuple[tuple[str, str], ...] = ()
    noise: Noise | None = None  # of made keypoints

    @cached_property
    def has_confidence(self) -> bool:
        """Whether any keypoints of the file have a third column."""
        views = (view for actions in self.keypoints.values() for views in actions.values() for view in views)
        return any(view.shape[-1] == 3 for view in views)

    def world(self, subject: str, action: str, skeleton: Skeleton) -> tuple[Tensor, dict[str, np.ndarray]]:
        """World poses (T, J, 3), metres, z up, and the frames (T,) of nobody; they are taken out of the source."""
        poses = _converted(self.poses[subject].pop(action), self.layout_3d, skeleton)
        lost = sanity.lost_frames(poses.numpy())
        return self.contract.frame.to_world(poses), {f"without a person in {self.file_3d}": lost[0]} if lost else {}

    def read(self, views: list[np.ndarray], clip: _Clip, skeleton: Skeleton) -> _View:
        """The keypoints that the file has for a clip."""
        points = views[clip.view][clip.window]
        scores = points[..., 2] if points.shape[-1] == 3 else None
        keypoints = _converted(points[..., :2], self.layout_2d, skeleton)
        matrix = conversion_matrix(self.layout_2d, skeleton)
        if (matrix.max(1) == 1).all():  # a selection has the marks of what is missing in it
            used, checked = matrix.argmax(1), keypoints.numpy()
        else:
            used = np.flatnonzero(matrix.any(0))
            checked = points[:, used, :2]
        lost = sanity.lost_frames(checked, None if scores is None else scores[:, used])
        reasons = (f"without a person in {self.file_2d}", f"with joints missing in {self.file_2d}")
        confidence = None if scores is None else _converted(scores[..., None], self.layout_2d, skeleton)[..., 0]
        return _View(keypoints, confidence, dict(zip(reasons, lost, strict=True)) if lost else {})

    def make(self, pose: Tensor, clip: _Clip, length: int) -> _View:
        """Keypoints made of the poses (T, J, 3), camera frame, of a sequence of `length` frames."""
        keypoints, hidden = see(pose, clip.camera)
        if self.noise:
            keypoints = disturb(keypoints, clip.frames, length, self.noise, str(clip))
        return _View(keypoints, None, {"with somebody not in front of the camera": hidden} if hidden.any() else {})

    def pairs(self, actions: str | Iterable[str], exact: bool) -> list[tuple[str, str]]:
        """(subject, action) in the order of the subjects and of the 2D file; what only one file has is left out."""
        if self.file_2d is None:
            self.keypoints = {subject: dict.fromkeys(actions, []) for subject, actions in self.poses.items()}
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
        cameras = len(self.contract.views(subject, action))
        found = len(self.keypoints[subject][action]) if self.file_2d else cameras
        if found != cameras:
            raise InputError(
                f"{self.file_2d} has {found} views of subject {subject}, action {action}; expected {cameras}, one for "
                f"each camera of {'Human3.6M' if self.contract.cameras is None else self.file_3d}"
            )
        wanted = range(cameras) if wanted is None else sorted(set(wanted))
        for view in wanted:
            if view not in range(cameras):
                raise InputError(f"unknown view {view}; there are views 0 to {cameras - 1}")
        return list(wanted)

    def paired_length(self, subject: str, action: str, view: int) -> int:
        """Frames that both files have. Detections go on after the last pose; they must not end before it."""
        poses = self.poses[subject][action]
        if self.file_2d is None:
            return len(poses)
        keypoints = self.keypoints[subject][action][view]
        if len(keypoints) < len(poses):
            lengths = f"subject {subject}, action {action}, view {view} has {len(keypoints)} frames, {len(poses)} poses"
            if not self._is_broken(subject, action):
                raise InputError(f"2D shorter than 3D: {lengths}; do {self.file_2d} and {self.file_3d.name} match?")
            log.warning("2D shorter than 3D, cut to it: %s", lengths)
        return min(len(keypoints), len(poses))


def _read_source(file_3d: Path, file_2d: Path | None, subjects: list[str], dataset: str, skeleton: Skeleton) -> _Source:
    """Read the files and check what is in them: subjects, cameras, shapes, units."""
    arrays = load_npz(file_3d, required=("positions_3d",))
    contract = read_contract(arrays, file_3d)
    if isinstance(arrays["positions_3d"], dict):
        contract.check_subjects(arrays["positions_3d"])
    poses = _by_subject(arrays.pop("positions_3d"), subjects, file_3d, "positions_3d")
    own = (contract.skeleton,) if contract.skeleton else LAYOUTS_3D
    layout_3d = _layout(poses, lambda joints: own, 3, file_3d)
    contract = _check_people(poses, layout_3d, contract, arrays, skeleton)
    keypoints, layout_2d = {}, layout_3d
    if file_2d:
        content = load_npz(file_2d, required=("positions_2d",))
        keypoints = _by_subject(content.pop("positions_2d"), subjects, file_2d, "positions_2d")
        metadata = content.get("metadata")
        layout_2d = _layout(keypoints, lambda joints: layouts_2d(metadata, file_2d, contract, joints), 2, file_2d)
        conversion_matrix(layout_2d, skeleton)
    broken = (("S11", "Directions"),) if dataset.startswith("h36m") else ()
    return _Source(file_3d, file_2d, poses, keypoints, layout_3d, layout_2d, contract, broken)


def _check_people(
    poses: dict[str, dict[str, np.ndarray]], layout: Skeleton, contract: Contract, arrays: dict, skeleton: Skeleton
) -> Contract:
    """The contract, with the axis that people stand along where the file does not say it and has cameras of its own;
    poses in another unit, and people who lie on their side in Human3.6M's rooms, are refused.
    """
    few = [sanity.sample(takes[action], layout, skeleton) for takes in poses.values() for action in takes]
    sanity.check_size(few, skeleton, contract.frame.unit, str(contract.file))
    up = "z" if contract.says_up else sanity.up_axis(few, skeleton)
    if up == "z":
        return contract
    said = f"{contract.file}: people stand along {up}, not z"
    if contract.cameras is None:
        raise InputError(
            f"{said}, which is up in Human3.6M's rooms; turn them, or name the file's axis: metadata {{'up': '{up}'}}"
        )
    log.warning("%s: taken as the axis that points up; metadata {'up': '%s'} says so", said, up)
    return read_contract({**arrays, "metadata": {**(arrays.get("metadata") or {}), "up": up}}, contract.file)


def _by_subject(data: Any, subjects: list[str], file: Path, key: str) -> dict[str, dict[str, Any]]:
    """The wanted subjects of subject -> action -> data, in the order wanted, action names levelled."""
    if not isinstance(data, dict) or not all(isinstance(actions, dict) for actions in data.values()):
        raise InputError(f"{file}: {key} is not a dict of subject -> action -> data (VideoPose3D's layout)")
    unknown = [subject for subject in subjects if subject not in data]
    if unknown or not subjects:
        raise InputError(
            f"unknown subject {', '.join(unknown) or repr('')}; {file} has: {', '.join(map(str, data))}; choose with "
            "--subjects-train and --subjects-test, or in the metadata of the 3D file"
        )
    levelled = {name: {canonical_action(str(action)): data[name][action] for action in data[name]} for name in subjects}
    for subject, actions in levelled.items():
        if len(actions) < len(data[subject]):
            raise InputError(f"{file}: subject {subject} has one action under two names: {', '.join(data[subject])}")
    return levelled


def _layout(
    tree: dict[str, dict[str, Any]], layouts: Callable[[int], tuple[Skeleton, ...]], dims: int, file: Path
) -> Skeleton:
    """The one joint layout of every array in subject -> action -> array or views, among those possible for a number of
    joints.
    """
    found = None
    for subject, actions in tree.items():
        for action, value in actions.items():
            several = dims == 2 and isinstance(value, (list, tuple, np.ndarray))
            for view, points in enumerate(value if several else [value]):
                where = f"{file}: subject {subject}, action {action}" + (f", view {view}" if dims == 2 else "")
                if not isinstance(points, np.ndarray) or points.dtype.kind not in "fiu" or points.ndim != 3:
                    raise InputError(f"{where} is not a number array (frames, joints, {dims})")
                if points.shape[2] != dims and (dims, points.shape[2]) != (2, 3):
                    more = ", or (frames, joints, 3) with confidences" if dims == 2 else ""
                    raise InputError(f"{where} has shape {points.shape}; expected (frames, joints, {dims}){more}")
                possible = [found] if found else layouts(points.shape[1])
                found = found or next((known for known in possible if known.num_joints == points.shape[1]), None)
                if found is None or points.shape[1] != found.num_joints:
                    names = " or ".join(known.name for known in possible)
                    raise InputError(f"{where} has {points.shape[1]} joints; expected the layout {names}")
    if found is None:
        raise InputError(f"{file} has no actions for {', '.join(tree)}")
    return found


def find_files(data_dir: Path, dataset: str, keypoints: str) -> tuple[Path, Path | None]:
    """The 3D and the 2D file of a data set; no 2D file for keypoints that can be made of the poses.

    Raises:
        InputError: one is missing: which, where it was looked for, which keypoints there are, how to get the file.
    """
    file_3d = find_3d(data_dir, dataset)
    file_2d = data_dir / f"data_2d_{dataset}_{keypoints}.npz"
    missing = [path.name for path in (file_3d, file_2d) if not path.exists()]
    if not missing:
        return file_3d, file_2d
    if missing == [file_2d.name] and keypoints in MADE:
        return file_3d, None
    prefix = f"data_2d_{dataset}_"
    others = sorted(path.stem.removeprefix(prefix) for path in data_dir.glob(f"{prefix}*.npz"))
    found = f"; keypoints found there for {dataset}: {', '.join(others)}" if others else ""
    if dataset == "synthetic":
        raise InputError(f"{missing[0]}: the synthetic data set has no such keypoints{found}")
    how = "put the files there or name their folder with --data-dir"
    if dataset == "h36m":
        how += "; VideoPose3D's DATASETS.md tells how to get and prepare Human3.6M"
    if file_3d.exists():
        how += "; -k gt and -k noisy need no 2D file"
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
