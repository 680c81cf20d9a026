"""A tiny data set in VideoPose3D's file layout: a standing person who sways and swings limbs, in the real cameras.

    write_tiny_dataset(tmp_path)                                    # -d tiny -k gt
    write_tiny_dataset(tmp_path, "h36m", keypoints=("gt", "cpn_ft_h36m_dbb"), frames=8)

To damage a file on purpose, take the dicts of `tiny_poses` and `tiny_keypoints`, change them, and `save_npz` them.
"""

from pathlib import Path

import numpy as np
import torch

from common.camera import h36m_cameras, project, world_to_camera
from common.files.npz import save_npz
from common.skeleton import H36M_17, H36M_32, Skeleton, convert

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
ACTIONS = ("Walking", "Eating", "Eating 1")
FRAMES = 10

# One person, metres: x to the right, y forward, z up.
_STANDING = {
    "hip": (0, 0, 0.92), "spine": (0, -0.02, 1.15), "thorax": (0, 0, 1.40), "neck": (0, 0.06, 1.49),
    "head": (0, 0.02, 1.60), "left hip": (-0.13, 0, 0.92), "left knee": (-0.14, 0.03, 0.48),
    "left foot": (-0.14, 0, 0.05), "left shoulder": (-0.15, 0, 1.38), "left elbow": (-0.22, 0, 1.11),
    "left wrist": (-0.24, 0.10, 0.88),
}  # fmt: skip
_STANDING |= {name.replace("left", "right"): (-x, y, z) for name, (x, y, z) in _STANDING.items() if "left" in name}
_SWING = {"knee": 0.10, "foot": 0.22, "elbow": 0.12, "wrist": 0.25}  # metres forward, left and right in turn


def write_tiny_dataset(
    folder: str | Path,
    name: str = "tiny",
    keypoints: tuple[str, ...] = ("gt",),
    frames: int = FRAMES,
    subjects: tuple[str, ...] = SUBJECTS,
    actions: tuple[str, ...] = ACTIONS,
    joints_3d: Skeleton = H36M_32,
) -> Path:
    """Write `data_3d_NAME.npz` and one `data_2d_NAME_KEYPOINTS.npz` for each of `keypoints`; returns the folder.

    "gt" is exact; every other name gets 3 pixels of noise. The same arguments give the same bytes.
    """
    folder = Path(folder)
    poses = tiny_poses(frames, subjects, actions, joints_3d)
    save_npz(folder / f"data_3d_{name}.npz", positions_3d=poses)
    for i, kind in enumerate(keypoints):
        views = tiny_keypoints(poses, joints_3d, noise=0 if kind == "gt" else 3, seed=i)
        save_npz(folder / f"data_2d_{name}_{kind}.npz", positions_2d=views, metadata=metadata())
    return folder


def metadata() -> dict:
    """VideoPose3D's `metadata` of a 2D file with 17 joints."""
    symmetry = [list(H36M_17.left), list(H36M_17.right)]
    return {"layout_name": "h36m", "num_joints": H36M_17.num_joints, "keypoints_symmetry": symmetry}


def tiny_poses(
    frames: int = FRAMES,
    subjects: tuple[str, ...] = SUBJECTS,
    actions: tuple[str, ...] = ACTIONS,
    skeleton: Skeleton = H36M_32,
) -> dict:
    """subject -> action -> world joints (frames, J, 3), metres, float32, z up; every sequence moves differently."""
    rng = np.random.default_rng(0)
    return {subject: {action: _motion(rng, frames, skeleton) for action in actions} for subject in subjects}


def tiny_keypoints(poses: dict, skeleton: Skeleton = H36M_32, noise: float = 0.0, seed: int = 0) -> dict:
    """subject -> action -> pixels (frames, 17, 2) in each of the subject's four cameras, float32."""
    rng = np.random.default_rng(seed)

    def view(world, camera):
        world = torch.from_numpy(np.ascontiguousarray(convert(world, skeleton, H36M_17)))
        points = world_to_camera(world, torch.tensor(camera.orientation), torch.tensor(camera.translation))
        pixels = project(points, camera.intrinsics("pixels")).numpy()
        return (pixels + noise * rng.standard_normal(pixels.shape)).astype(np.float32)

    return {
        subject: {name: [view(world, camera) for camera in h36m_cameras()[subject]] for name, world in actions.items()}
        for subject, actions in poses.items()
    }


def _motion(rng: np.random.Generator, frames: int, skeleton: Skeleton) -> np.ndarray:
    """World joints (frames, J, 3): limbs swing, the body walks a little, turned and placed at random in the room."""
    phase = rng.uniform(0, 2 * np.pi) + 0.35 * np.arange(frames)
    joints = np.empty((frames, skeleton.num_joints, 3))
    for j, joint in enumerate(skeleton.joints):
        known = joint
        while known not in _STANDING:  # copies and ends lie on the joint that they hang from
            known = skeleton.joints[skeleton.parents[skeleton.index(known)]]
        joints[:, j] = _STANDING[known]
        side = (known.startswith("left") - known.startswith("right")) * (
            -1 if "wrist" in known or "elbow" in known else 1
        )
        joints[:, j, 1] += side * _SWING.get(known.split()[-1], 0) * np.sin(phase)
    joints[..., 1] += 0.02 * np.arange(frames)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([(np.cos(angle), np.sin(angle), 0), (-np.sin(angle), np.cos(angle), 0), (0, 0, 1)])
    return (joints * rng.uniform(0.9, 1.1) @ turn + (*rng.uniform(-0.5, 0.5, 2), 0)).astype(np.float32)
