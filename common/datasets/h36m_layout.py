"""Human3.6M-layout files (VideoPose3D's, and any data set's) -> one `PoseSet` of flat tensors per split.

`data_3d_NAME.npz` holds `positions_3d`: subject -> action -> (T, 32, 3) metres, world frame; and what the `contract`
says. `data_2d_NAME_KEYPOINTS.npz` holds `positions_2d`: subject -> action -> one (T, 17, 2) array in pixels per view,
or (T, 17, 3) with confidences, and `metadata`. Poses come out in the camera frame (metres, absolute), joints in the
order of the skeleton asked for. Without a 2D file "gt" and "noisy" are made of the poses.
"""

import ctypes
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.camera import world_to_camera
from common.datasets import sanity
from common.datasets.choice import frame_window, names_of
from common.datasets.contract import Contract, find_3d, layouts_2d
from common.datasets.projected import Noise
from common.datasets.source import HIDDEN, Clip, Source, by_subject, find_files, layout_of, read_source
from common.errors import InputError
from common.files.npz import load_npz
from common.pose_set import PoseSet, Sequence, sequence_index
from common.skeleton import H36M_17, Skeleton

log = logging.getLogger(__name__)

DEFAULT_NOISE = Noise()
NO_FRAMES = "no poses left: --subset {} --downsample {} leave no frame"


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
    source = read_source(file_3d, file_2d, names_of(subjects), dataset, skeleton)
    source.noise = noise if keypoints == "noisy" else None
    clips = []
    for subject, action in source.pairs(actions, exact_actions):
        for view in source.views(subject, action, views):
            frames = frame_window(source.paired_length(subject, action, view), subset, downsample)
            if frames:
                clips.append(Clip(subject, action, view, source.contract.views(subject, action)[view], frames))
    if not clips:
        raise InputError(NO_FRAMES.format(subset, downsample))
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
    tree = by_subject(tree, list(tree) if isinstance(tree, dict) else [], file, "positions_2d")
    metadata, contract = content.get("metadata"), Contract(file)
    layout = layout_of(tree, lambda joints: layouts_2d(metadata, file, contract, joints), 2, file)
    source = Source(file, file, {}, tree, layout, layout, contract)
    clips = [
        Clip(str(subject), action, view, None, range(len(points)))
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
    subset: float = 1.0,
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
    source = read_source(file, None, names_of(subjects), dataset, skeleton)
    clips = [
        Clip(subject, action, 0, None, frame_window(len(source.poses[subject][action]), subset, downsample))
        for subject, action in source.pairs(actions, exact_actions)
    ]
    left_out = _LeftOut(sum(len(clip.frames) for clip in clips))
    if not left_out.total:
        raise InputError(NO_FRAMES.format(subset, downsample))
    poses, sequences, numbers, end = [], [], [], 0
    for clip in clips:
        world, lost = source.world(clip.subject, clip.action, skeleton)
        shown = world[clip.window]
        gone = left_out.add(clip, {why: frames[clip.window] for why, frames in lost.items()})
        _check_finite(shown, gone, clip, file)
        for run in _runs(gone, len(shown)):
            poses.append(shown[run].clone())
            numbers.append(torch.arange(len(world), dtype=torch.int32)[clip.window][run])
            sequences.append(Sequence(clip.subject, clip.action, 0, end, len(poses[-1]), None, dataset))
            end += len(poses[-1])
    left_out.report(end)
    sequences, poses = tuple(sequences), torch.cat(poses)
    motion = PoseSet(poses[..., :0], skeleton, sequences, sequence_index(sequences), torch.cat(numbers), poses)
    return motion.to(device)


def _fill(source: Source, clips: list[Clip], skeleton: Skeleton, dataset: str) -> PoseSet:
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
            _check_finite(pose, gone, clip, source.file_3d)
            _check_finite(view.keypoints, gone, clip, source.file_2d or f"keypoints made of {source.file_3d}")
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

    def add(self, clip: Clip, lost: Mapping[str, np.ndarray]) -> np.ndarray | None:
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
        if self.reasons[HIDDEN] > self.total / 2:
            text += "; are poses and cameras in one unit and frame?"
        if not kept:
            raise InputError(f"{text}: no poses left")
        log.warning(text)


def _runs(gone: np.ndarray | None, length: int) -> list[slice]:
    """The frames that are not gone, in runs without a gap."""
    if gone is None:
        return [slice(0, length)]
    edges = np.flatnonzero(np.diff(np.concatenate(([True], gone, [True])).astype(np.int8)))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2).tolist()]


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


def _check_finite(points: Tensor, gone: np.ndarray | None, clip: Clip, file: Path | str) -> None:
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
