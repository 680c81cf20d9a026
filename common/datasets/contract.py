"""The contract of `data_3d_NAME.npz` beside its poses: cameras, joints, units, frame rate and split of a data set.

`cameras`: subject (or subject -> action) -> list of any length of dictionaries, one for each view. `metadata`: a
dictionary. Both may be left out; data/README.md tells what may be in them. What leaves here is in metres, z up.
"""

from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.camera import h36m_cameras
from common.datasets.cameras import METRES, UP, Frame, Views, numbers, read_cameras
from common.errors import InputError
from common.files.npz import load_npz
from common.h36m import TEST_LIST, TEST_SUBJECTS, TRAIN_LIST, TRAIN_SUBJECTS, canonical_action
from common.joint_names import named_layout
from common.skeleton import COCO_17, H36M_16, H36M_17, H36M_32, LAYOUTS, MPII_16, Skeleton

KEYS = ("cameras", "metadata")
LAYOUTS_3D = (H36M_32, H36M_17, H36M_16)
LAYOUTS_2D = {"h36m": (H36M_17, H36M_16, H36M_32), "coco": (COCO_17,), "mpii": (MPII_16,)}  # by metadata's layout_name


@dataclass(frozen=True)
class Contract:
    """What a 3D file says besides its poses."""

    file: Path
    cameras: Mapping[str, Views | Mapping[str, Views]] | None = None  # None: Human3.6M's
    skeleton: Skeleton | None = None  # None: Human3.6M's 32, 17 or 16 joints
    fps: float | None = None
    frame: Frame = Frame()
    says_up: bool = False  # whether the file says which axis points up
    subjects_train: tuple[str, ...] = ()
    subjects_test: tuple[str, ...] = ()
    layout_name: str = field(default="", compare=False)

    def views(self, subject: str, action: str) -> Views:
        """The cameras that see an action, by its name or by `canonical_action`'s.

        Raises:
            InputError: there are none, and the subject is none of Human3.6M's.
        """
        known = h36m_cameras() if self.cameras is None else self.cameras
        views = known.get(subject)
        views = views.get(canonical_action(action)) if isinstance(views, Mapping) else views
        if views is None:
            own = known.get(subject)
            whom, there = (subject, known) if own is None else (f"{subject}, action {action}", own)
            raise InputError(
                f"no camera calibration for {whom}; there is for: {', '.join(there) or 'none'}; 'cameras' in "
                f"{self.file} may give it, see data/README.md"
            )
        return views

    def check_subjects(self, known: Iterable[str]) -> None:
        """Refuse a split that names a subject without poses."""
        known = list(map(str, known))
        for name in ("subjects_train", "subjects_test"):
            unknown = [subject for subject in getattr(self, name) if subject not in known]
            if unknown:
                raise InputError(
                    f"{self.file}: {name} of its metadata has unknown subject {', '.join(unknown)}; positions_3d has: "
                    f"{', '.join(known)}"
                )


def find_3d(data_dir: str | Path, dataset: str) -> Path:
    """Where the 3D file of a data set would lie."""
    return Path(data_dir) / f"data_3d_{dataset}.npz"


def load_contract(data_dir: str | Path, dataset: str) -> Contract:
    """The contract of a data set, without reading its poses.

    Raises:
        InputError: the file is missing or damaged, or breaks the contract.
    """
    file = find_3d(data_dir, dataset)
    return read_contract(load_npz(file, only=KEYS), file)


def read_contract(arrays: Mapping[str, Any], file: Path) -> Contract:
    """The contract in the arrays of a 3D file, which `file` names in errors.

    Raises:
        InputError: it is broken: where, what was found, what is expected.
    """
    contract = _read_metadata(arrays.get("metadata"), file)
    if arrays.get("cameras") is None:
        return contract
    return replace(contract, cameras=read_cameras(arrays["cameras"], str(file), contract.frame))


# ------------------------------------------------------------ split

TRAIN_HELP = f"training subjects; default: the data set's own, else {TRAIN_LIST}"
TEST_HELP = f"test subjects; default: the data set's own, else {TEST_LIST}"


def own_split(data_dir: str | Path, dataset: str) -> tuple[str, str]:
    """Training and test subjects of a data set, "S1,S5,..." each: the file's own, else Human3.6M's."""
    file = find_3d(data_dir, dataset)
    if not file.is_file():
        return TRAIN_LIST, TEST_LIST
    found = _read_metadata(load_npz(file, only=("metadata",)).get("metadata"), file)
    return ",".join(found.subjects_train or TRAIN_SUBJECTS), ",".join(found.subjects_test or TEST_SUBJECTS)


def settle_train(args: Namespace, names: str) -> None:
    """Fill in `args.subjects_train` where it was left open, with the `own_split` of the data sets `names` ("mpii,cmu").
    Sets that have different splits leave it open: each its own.
    """
    if not args.subjects_train:
        there = [name.strip() for name in names.split(",") if find_3d(args.data_dir, name.strip()).is_file()]
        splits = {own_split(args.data_dir, name)[0] for name in there}
        args.subjects_train = "" if len(splits) > 1 else next(iter(splits), TRAIN_LIST)


def settle_test(args: Namespace, name: str) -> None:
    """Fill in `args.subjects_test` where it was left open, with the `own_split` of a data set."""
    args.subjects_test = args.subjects_test or own_split(args.data_dir, name)[1]


def check_apart(args: Namespace) -> None:
    """Refuse, with an InputError, options by which somebody of one data set is to train and to test on."""
    training = _texts(args.subjects_train)
    both = [subject for subject in _texts(args.subjects_test) if subject in training]
    if both:
        raise InputError(
            f"{', '.join(both)} to train and to test on: name other people with --subjects-train or --subjects-test"
        )


# ------------------------------------------------------------ metadata


def _read_metadata(metadata: Any, file: Path | str) -> Contract:
    if metadata is None:
        return Contract(file)
    if not isinstance(metadata, dict):
        raise InputError(f"{file}: metadata is no dictionary")
    unit, up = str(metadata.get("unit", "m")).lower(), metadata.get("up")
    if unit not in METRES:
        raise InputError(f"{file}: metadata's unit is {unit!r}; expected m, cm or mm")
    up = None if up is None else str(up).lower().removeprefix("+")
    if up is not None and up not in UP:
        raise InputError(f"{file}: metadata's up is {up!r}; expected the axis that points up: {', '.join(UP)}")
    fps = metadata.get("fps")
    if fps is not None:
        fps = float(numbers(fps, (), f"{file}: metadata's fps"))
        if fps <= 0:
            raise InputError(f"{file}: metadata's fps is {fps:g}; expected frames a second")
    train, test = (
        tuple(_texts(metadata.get(name), f"{file}: metadata's {name}")) for name in ("subjects_train", "subjects_test")
    )
    both = [subject for subject in test if subject in train]
    if both:
        raise InputError(f"{file}: metadata has {', '.join(both)} in subjects_train and in subjects_test: choose one")
    name = str(metadata.get("layout_name", ""))
    frame = Frame(unit, up or "z")
    return Contract(file, None, _own_layout(metadata, file), fps, frame, up is not None, train, test, name)


def _own_layout(metadata: dict, file: Path | str) -> Skeleton | None:
    """The layout by its joints' names, or by its name among ours; None: one of Human3.6M's."""
    name = str(metadata.get("layout_name", ""))
    if "names" in metadata:
        names = _texts(metadata["names"], f"{file}: metadata's names")
        title = f"{name} of {file}" if name else f"the {len(names)} joints named in {file}"
        parents = metadata.get("parents")
        if parents is not None:
            parents = np.asarray(parents, object).ravel().tolist()
            if not all(isinstance(parent, (int, np.integer)) for parent in parents):
                raise InputError(f"{title}: parents are {parents!r:.60}; expected whole numbers, -1 for the root")
        return named_layout(title, names, parents)
    if name in ("", "h36m"):
        return None
    short = {"coco": "coco17", "mpii": "mpii16"}.get(name, name)
    if short not in LAYOUTS:
        raise InputError(
            f"{file} names the joint layout {name!r}; known: {', '.join((*LAYOUTS_2D, *LAYOUTS))}; or name its joints "
            "in metadata's names"
        )
    return LAYOUTS[short]


def layouts_2d(metadata: Any, file: Path, contract: Contract, joints: int) -> tuple[Skeleton, ...]:
    """The layouts that keypoints of `joints` joints may have, by the metadata of their file; where that says nothing,
    the 3D file's if it has as many joints, else Human3.6M's.
    """
    if not isinstance(metadata, dict | None):
        raise InputError(f"{file}: metadata is no dictionary")
    metadata = metadata or {}
    name = str(metadata.get("layout_name", ""))
    own = contract.skeleton
    if own and own.num_joints == joints and "names" not in metadata and name in ("", contract.layout_name):
        return (own,)
    if "names" not in metadata and (name or "h36m") in LAYOUTS_2D:
        return LAYOUTS_2D[name or "h36m"]
    return (_own_layout(metadata, file),)


def _texts(value: Any, where: str = "") -> list[str]:
    """Names from a list, an array, or text with commas; None is none."""
    if isinstance(value, str):
        value = value.split(",")
    if value is not None and not isinstance(value, (list, tuple, np.ndarray)):
        raise InputError(f"{where} is {value!r:.60}; expected a list of names")
    return [str(part).strip() for part in (() if value is None else value) if str(part).strip()]
