"""Where in front of the camera people are: the way of the hip, from the size of a body and its place in the picture.

Camera frame: x right, y down, z forward, metres. NumPy.
"""

import math

import numpy as np

NEAREST = 0.3  # metres


def hip_path(points: np.ndarray, poses: np.ndarray, size: tuple[int, int], focal: float | None = None) -> np.ndarray:
    """Places of the hip (T, 3), at which the poses, seen by the camera, lie on their keypoints: least squares.

    Every joint gives two linear equations for the hip's place. Nothing is smoothed.

    Args:
        points: (T, J, 2) pixels.
        poses: (T, J, 3) metres, the hip at the origin.
        size: width and height of the picture; its middle is where the camera looks.
        focal: pixels; None: the picture's diagonal, as is usual where nothing is known (Li et al., "CLIFF", ECCV 2022).
    """
    slopes = (points - np.array(size) / 2) / (focal or math.hypot(*size))
    frames, joints = slopes.shape[:2]
    system = np.zeros((frames, joints, 2, 3))
    system[..., 0, 0] = system[..., 1, 1] = 1
    system[..., 2] = -slopes
    goal = slopes * poses[..., 2:] - poses[..., :2]
    rows, goal = system.reshape(frames, -1, 3), goal.reshape(frames, -1, 1)
    normal = rows.transpose(0, 2, 1) @ rows + 1e-9 * np.eye(3)
    place = np.linalg.solve(normal, rows.transpose(0, 2, 1) @ goal)[..., 0]
    place[:, 2] = np.maximum(place[:, 2], NEAREST)
    return place
