"""Motion capture files -> `common.mocap.motion.Motion`: BVH, Acclaim, C3D, and npz of joints or of SMPL's poses."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray as Array

from common.errors import InputError
from common.files.npz import load_npz
from common.files.reading import reading
from common.mocap.acclaim import read_amc
from common.mocap.bvh import read_bvh
from common.mocap.motion import Motion, check_finite
from common.rotation import so3_exp_exact

SUFFIXES = (".bvh", ".amc", ".npz", ".c3d")
# The first joints of SMPL, SMPL-H and SMPL-X: the body. What follows is hands and face.
SMPL_BODY = (
    "Pelvis", "L_Hip", "R_Hip", "Spine1", "L_Knee", "R_Knee", "Spine2", "L_Ankle", "R_Ankle", "Spine3", "L_Foot",
    "R_Foot", "Neck", "L_Collar", "R_Collar", "Head", "L_Shoulder", "R_Shoulder", "L_Elbow", "R_Elbow", "L_Wrist",
    "R_Wrist",
)  # fmt: skip
_BODY = len(SMPL_BODY)
_SMPL_COUNTS = (22, 24, 52, 55)  # body, SMPL, SMPL-H, SMPL-X
_POSITIONS = ("joints", "Jtr", "joints3d", "positions")
_RATES = ("mocap_framerate", "mocap_frame_rate", "framerate", "frame_rate", "fps")


def read_motion(path: str | os.PathLike, smpl_model: str | os.PathLike | None = None) -> Motion:
    """Read a file by its suffix, one of SUFFIXES. `smpl_model`: see `read_npz`.

    Raises:
        InputError: unknown suffix, or what the readers find wrong.
    """
    path = Path(path)
    readers: dict[str, Callable[[], Motion]] = {
        ".bvh": lambda: read_bvh(path),
        ".amc": lambda: read_amc(path),
        ".npz": lambda: read_npz(path, smpl_model),
        ".c3d": lambda: read_c3d(path),
    }
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(readers)}")
    with reading(path, "motion file"):
        return readers[path.suffix.lower()]()


# ------------------------------------------------------------ npz


def read_npz(path: Path, smpl_model: str | os.PathLike | None = None) -> Motion:
    """Joints of SMPL's layout, metres: of an array of joint positions, or from the poses of AMASS and a body model.

    Keys read: one of `joints`, `Jtr`, `joints3d`, `positions` (N, 22, 24, 52 or 55, 3); or else `poses` (N, 3 J), axis
    times angle, `betas` (B,) and `trans` (N, 3), with `smpl_model` (`smpl_joints`). The rate is one of `fps`,
    `mocap_framerate`, `mocap_frame_rate`; NaN where there is none.

    Raises:
        InputError: neither positions nor poses with a model, other shapes, NaN.
    """
    arrays = load_npz(path)
    if "poses" not in arrays and not set(_POSITIONS) & arrays.keys():
        raise InputError(
            f"{path} has {', '.join(arrays) or 'no arrays'}; expected joint positions, `joints` (N, 22, 24 or 52, 3), "
            "or AMASS's `poses`, `betas`, `trans`"
        )
    key = next((key for key in _POSITIONS if key in arrays), None)
    if key is not None:
        points = _numeric(arrays[key], key, path)
        if points.ndim != 3 or points.shape[1] not in _SMPL_COUNTS or points.shape[2] != 3 or not len(points):
            raise InputError(
                f"{path}: {key} has shape {points.shape}; expected (N, 22, 24, 52 or 55, 3), SMPL's joints"
            )
        points = points[:, :_BODY]
    elif smpl_model is None:
        raise InputError(
            f"{path} holds SMPL poses and no joint positions. These come from the body model, which may not be passed "
            "on: get it from smpl.is.tue.mpg.de or mano.is.tue.mpg.de and give its npz (J_regressor, v_template, "
            "shapedirs, kintree_table) with --smpl-model, or add `joints` (N, 22, 24 or 52, 3) in metres to the file"
        )
    else:
        points = smpl_joints(arrays, smpl_model, path)
    check_finite(points, path)
    rate = next((arrays[key] for key in _RATES if key in arrays), np.nan)
    rate = np.asarray(rate)
    fps = float(rate.reshape(-1)[0]) if rate.dtype.kind in "fiu" and rate.size == 1 else np.nan
    return Motion(SMPL_BODY, points, fps, unit=None if key else 1.0)


def _numeric(array, key: str, path) -> Array:
    array = np.asarray(array)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: {key} holds {array.dtype}; expected numbers")
    return array.astype(np.float64)


def smpl_joints(arrays: dict, model: str | os.PathLike, path) -> Array:
    """The 22 body joints (N, 22, 3), metres, of AMASS's poses (Mahmood et al., "AMASS", ICCV 2019).

    The joints at rest are J_regressor (v_template + shapedirs betas) (Loper et al., "SMPL", SIGGRAPH Asia 2015,
    eq. 10); the poses turn them along kintree_table. The corrective shapes of a pose move no joint.
    """
    keys = ("J_regressor", "v_template", "shapedirs", "kintree_table")
    parts = load_npz(model, required=keys)
    regressor, template, shapes, tree = (_numeric(parts[key], key, model) for key in keys)
    fits = regressor.ndim == tree.ndim == 2 and shapes.ndim == 3 and template.shape == (regressor.shape[1], 3)
    if not fits or shapes.shape[:2] != template.shape or tree.shape[1] < _BODY or len(regressor) < _BODY:
        raise InputError(
            f"{model} is no SMPL body model: expected J_regressor (J, V), v_template (V, 3), shapedirs (V, 3, B), "
            f"kintree_table (2, J) with J of {_BODY} or more"
        )
    poses = _numeric(arrays["poses"], "poses", path)
    count = len(poses)
    if poses.ndim != 2 or poses.shape[1] < 3 * _BODY or not count:
        raise InputError(
            f"{path}: poses has shape {poses.shape}; expected (N, 66 or more): axis times angle of each joint"
        )
    betas = _numeric(arrays.get("betas", np.zeros(0)), "betas", path).reshape(-1)[: shapes.shape[2]]
    trans = _numeric(arrays.get("trans", np.zeros((count, 3))), "trans", path)
    if trans.shape != (count, 3):
        raise InputError(f"{path}: trans has shape {trans.shape}; expected ({count}, 3)")
    check_finite(poses, path)
    rest = (regressor @ (template + shapes[..., : len(betas)] @ betas))[:_BODY]
    turns = so3_exp_exact(torch.from_numpy(poses[:, : 3 * _BODY].reshape(count, _BODY, 3))).numpy()
    frames, points = [turns[:, 0]], [rest[0] + trans]
    parents = tree[0, :_BODY].astype(int)
    if not (parents[1:] < np.arange(1, _BODY)).all() or (parents[1:] < 0).any():
        raise InputError(f"{model}: kintree_table does not name a parent before each of the {_BODY} body joints")
    for joint in range(1, _BODY):
        parent = parents[joint]
        points.append(points[parent] + frames[parent] @ (rest[joint] - rest[parent]))
        frames.append(frames[parent] @ turns[:, joint])
    return np.stack(points, 1)


# ------------------------------------------------------------ C3D


def read_c3d(path: Path) -> Motion:
    """The points of a C3D file under their labels, without a subject's name before them ("Anna:LKNE").

    Raises:
        InputError: the package ezc3d is missing, or it cannot read the file.
    """
    try:
        ezc3d = importlib.import_module("ezc3d")
    except ImportError as error:
        raise InputError(f"{path}: C3D files need the package ezc3d: pip install ezc3d") from error
    try:
        content = ezc3d.c3d(str(path))
        group = content["parameters"]["POINT"]
        labels = tuple(label.strip() for label in group["LABELS"]["value"])
        points = np.asarray(content["data"]["points"], dtype=np.float64)[:3, : len(labels)]
        fps = float(group["RATE"]["value"][0])
        unit = {"mm": 0.001, "cm": 0.01, "m": 1.0}.get(str(([*group["UNITS"]["value"], ""])[0]).strip().lower())
    except Exception as error:  # of whatever kind: ezc3d is not ours
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path} is damaged or no C3D file with labelled points ({reason})") from error
    if not labels or not points.size:
        raise InputError(f"{path} has no labelled points")
    return Motion(labels, points.transpose(2, 1, 0), fps, unit)
