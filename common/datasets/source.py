"""The two files of a data set in Human3.6M's layout, 3D and 2D: read and checked whole, converted clip by clip."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.camera import Camera
from common.datasets import sanity
from common.datasets.choice import select_actions
from common.datasets.contract import LAYOUTS_3D, Contract, find_3d, layouts_2d, read_contract
from common.datasets.projected import MADE, Noise, disturb, see
from common.errors import InputError
from common.files.npz import load_npz
from common.h36m import action_label, canonical_action
from common.skeleton import Skeleton, conversion_matrix, convert

log = logging.getLogger(__name__)

HIDDEN = "with somebody not in front of the camera"


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


@dataclass(frozen=True)
class Clip:
    """What one camera sees of an action, and which frames of it are asked for."""

    subject: str
    action: str
    view: int
    camera: Camera | None
    frames: range

    @property
    def window(self) -> slice:
        """The frames as a slice of the action."""
        return slice(self.frames.start, self.frames.stop, self.frames.step)

    def __str__(self) -> str:
        return f"subject {self.subject}, action {self.action}, view {self.view}"


class View(NamedTuple):
    """Keypoints (T, J, 2) of one camera, their confidence (T, J), and frames (T,) to leave out by the reason."""

    keypoints: Tensor
    confidence: Tensor | None = None
    lost: Mapping[str, np.ndarray] = MappingProxyType({})


@dataclass
class Source:
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
        points = self.poses[subject].pop(action)
        poses = _converted(points, self.layout_3d, skeleton)
        lost = sanity.lost_frames(_used(points, poses, self.layout_3d, skeleton)[0])
        return self.contract.frame.to_world(poses), {f"without a person in {self.file_3d}": lost[0]} if lost else {}

    def read(self, views: list[np.ndarray], clip: Clip, skeleton: Skeleton) -> View:
        """The keypoints that the file has for a clip."""
        points = views[clip.view][clip.window]
        scores = points[..., 2] if points.shape[-1] == 3 else None
        keypoints = _converted(points[..., :2], self.layout_2d, skeleton)
        checked, used = _used(points[..., :2], keypoints, self.layout_2d, skeleton)
        lost = sanity.lost_frames(checked, None if scores is None else scores[:, used])
        reasons = (f"without a person in {self.file_2d}", f"with joints missing in {self.file_2d}")
        confidence = None if scores is None else _converted(scores[..., None], self.layout_2d, skeleton)[..., 0]
        return View(keypoints, confidence, dict(zip(reasons, lost, strict=True)) if lost else {})

    def make(self, pose: Tensor, clip: Clip, length: int) -> View:
        """Keypoints made of the poses (T, J, 3), camera frame, of a sequence of `length` frames."""
        keypoints, hidden = see(pose, clip.camera)
        if self.noise:
            keypoints = disturb(keypoints, clip.frames, length, self.noise, str(clip))
        return View(keypoints, None, {HIDDEN: hidden} if hidden.any() else {})

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
        if not wanted:
            raise InputError(f"no view is asked for; there are views 0 to {cameras - 1} of {subject}, action {action}")
        for view in wanted:
            if view not in range(cameras):
                raise InputError(
                    f"unknown view {view}; there are views 0 to {cameras - 1} of {subject}, action {action}"
                )
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


def read_source(file_3d: Path, file_2d: Path | None, subjects: list[str], dataset: str, skeleton: Skeleton) -> Source:
    """Read the files and check what is in them: subjects, cameras, shapes, units."""
    arrays = load_npz(file_3d, required=("positions_3d",))
    contract = read_contract(arrays, file_3d)
    if isinstance(arrays["positions_3d"], dict):
        contract.check_subjects(arrays["positions_3d"])
    poses = by_subject(arrays.pop("positions_3d"), subjects, file_3d, "positions_3d")
    own = (contract.skeleton,) if contract.skeleton else LAYOUTS_3D
    layout_3d = layout_of(poses, lambda joints: own, 3, file_3d)
    contract = _check_people(poses, layout_3d, contract, arrays, skeleton)
    keypoints, layout_2d = {}, layout_3d
    if file_2d:
        content = load_npz(file_2d, required=("positions_2d",))
        keypoints = by_subject(content.pop("positions_2d"), subjects, file_2d, "positions_2d")
        metadata = content.get("metadata")
        layout_2d = layout_of(keypoints, lambda joints: layouts_2d(metadata, file_2d, contract, joints), 2, file_2d)
        conversion_matrix(layout_2d, skeleton)
    broken = (("S11", "Directions"),) if dataset.startswith("h36m") else ()
    return Source(file_3d, file_2d, poses, keypoints, layout_3d, layout_2d, contract, broken)


def _check_people(
    poses: dict[str, dict[str, np.ndarray]], layout: Skeleton, contract: Contract, arrays: dict, skeleton: Skeleton
) -> Contract:
    """The contract, with the axis that people stand along where the file does not say it and has cameras of its own;
    poses in another unit, and people who lie on their side in Human3.6M's rooms, are refused.
    """
    few = [sanity.sample(takes[action], layout, skeleton) for takes in poses.values() for action in takes]
    sanity.check_size(few, skeleton, contract.frame.unit, str(contract.file))
    turned = few
    if contract.says_up:
        turned = [contract.frame.to_world(torch.from_numpy(pose.astype(np.float32))).numpy() for pose in few]
    up = sanity.up_axis(turned, skeleton)
    if up == "z":
        return contract
    if contract.says_up:
        log.warning("%s: metadata's up is %s, but people do not stand along it", contract.file, contract.frame.up)
        return contract
    said = f"{contract.file}: people stand along {up}, not z"
    if contract.cameras is None:
        raise InputError(
            f"{said}, which is up in Human3.6M's rooms; turn them, or name the file's axis: metadata {{'up': '{up}'}}"
        )
    log.warning("%s: taken as the axis that points up; metadata {'up': '%s'} says so", said, up)
    return read_contract({**arrays, "metadata": {**(arrays.get("metadata") or {}), "up": up}}, contract.file)


def by_subject(data: Any, subjects: list[str], file: Path, key: str) -> dict[str, dict[str, Any]]:
    """The wanted subjects of subject -> action -> data, in the order wanted, action names levelled."""
    if not isinstance(data, dict) or not all(isinstance(actions, dict) for actions in data.values()):
        raise InputError(f"{file}: {key} is not a dict of subject -> action -> data (VideoPose3D's layout)")
    data = {str(subject): actions for subject, actions in data.items()}
    unknown = [subject for subject in subjects if subject not in data]
    if unknown or not subjects:
        raise InputError(
            f"unknown subject {', '.join(unknown) or repr('')}; {file} has: {', '.join(data) or 'nobody'}; choose with "
            "--subjects-train and --subjects-test, or in the metadata of the 3D file"
        )
    levelled = {name: {canonical_action(str(action)): data[name][action] for action in data[name]} for name in subjects}
    for subject, actions in levelled.items():
        if len(actions) < len(data[subject]):
            raise InputError(f"{file}: subject {subject} has one action under two names: {', '.join(data[subject])}")
    return levelled


def layout_of(
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
                    raise InputError(f"{where} has {points.shape[1]} joints; expected {names}")
    if found is None:
        raise InputError(f"{file} has no actions for {', '.join(tree)}")
    return found


def _converted(points: np.ndarray, layout: Skeleton, skeleton: Skeleton) -> Tensor:
    """Points (T, J, D) in another joint layout, float32, in memory of their own."""
    used = _is_used(layout, skeleton)
    if points.dtype.kind != "f":
        points = points.astype(np.float64)  # the mean of whole numbers is none
    elif not used.all() and _means(layout, skeleton):
        points = np.where(used[:, None], points, points.dtype.type(0))  # 0 * NaN would spoil every joint
    with np.errstate(over="ignore", invalid="ignore"):  # refused later, by name
        return torch.from_numpy(np.ascontiguousarray(convert(points, layout, skeleton), dtype=np.float32))


def _means(layout: Skeleton, skeleton: Skeleton) -> bool:
    """Whether the conversion makes a joint of several, rather than select."""
    return bool((conversion_matrix(layout, skeleton).max(1) < 1).any())


def _is_used(layout: Skeleton, skeleton: Skeleton) -> np.ndarray:
    """(J,): which joints of a layout the conversion looks at."""
    return conversion_matrix(layout, skeleton).any(0)


def _used(points: np.ndarray, converted: Tensor, layout: Skeleton, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """The joints of points (T, J, D) in which marks of what is missing are looked for, and their places. A selection
    has the marks in it; where a joint is the mean of several, one mark among them is lost, and one NaN in all.
    """
    if not _means(layout, skeleton):
        return converted.numpy(), conversion_matrix(layout, skeleton).argmax(1)
    places = np.flatnonzero(_is_used(layout, skeleton))
    return points[:, places], places
