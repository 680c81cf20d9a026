"""A lifted video as files for other programs: `poses.npz`, `poses.json`, and `poses.bvh`, which Blender opens."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from common.files.atomic import write_atomic
from common.files.npz import save_npz
from common.skeleton import H36M_17
from common.video.bvh import write_bvh
from common.video.numbering import at_rate, is_even
from common.video.read import KeypointFile


def save_poses(
    folder: Path,
    found: KeypointFile,
    camera: np.ndarray,
    world: np.ndarray,
    fps: float,
    bones: str = "cmu",
    **about: Any,
) -> list[Path]:
    """Write a sequence in all three forms; -> the files. A BVH file has one rate: frames that come unevenly are brought
    to it.

    Args:
        found: the 2D poses that were lifted.
        camera: (T, 17, 3), camera axes, the hip at the origin, in the lifter's unit.
        world: (T, 17, 3), metres, z up, on the floor.
        fps: frames per second; of the BVH file, where they come unevenly.
        bones: the names in the BVH file, one of `rig.BONES`.
        about: what else to say of them (text and numbers): the method, the checkpoint, the camera's pitch.
    """
    files = [folder / f"poses.{kind}" for kind in ("npz", "json", "bvh")]
    about, times = {"fps": fps, **about}, found.seconds(fps)
    save_npz(
        files[0], poses=world.astype(np.float32), poses_camera=camera.astype(np.float32), keypoints=found.points,
        confidence=found.confidence, status=found.status, frames=np.array(found.frames),
        times=times, joints=np.array(H36M_17.joints), **{name: np.array(value) for name, value in about.items()},
    )  # fmt: skip
    content = {
        **about, "unit": "metres", "axes": "x right, y away from the camera, z up; the first hip over the origin, "
        "the floor at z = 0", "joints": list(H36M_17.joints), "parents": list(H36M_17.parents),
        "frames": [
            {"frame": name, "time": time, "pose": pose, "keypoints": points, "confidence": confidence}
            for name, time, pose, points, confidence in zip(
                found.frames, times.round(6).tolist(), world.astype(float).round(5).tolist(),
                found.points.astype(float).round(2).tolist(), found.confidence.astype(float).round(4).tolist(),
                strict=True,
            )
        ],
    }  # fmt: skip
    write_atomic(files[1], lambda file: file.write(json.dumps(content).encode()))
    write_bvh(files[2], world if is_even(times, fps) else at_rate(world, times, fps), fps, bones)
    return files
