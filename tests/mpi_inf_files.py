"""MPI-INF-3DHP's release on a small scale: files of its form, with known people and cameras; no test of its own."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

from common.skeleton import H36M_17, MPI_INF_3DHP_17

# Human3.6M's joints among the 28 of the training set: pelvis, right and left leg, spine, neck, head, head top, arms
PLACES = [4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16]
UNIVERSAL = 0.9  # of a person's size
# Somebody who stands, metres, z up, y to the left
STANDING = np.array([
    (0, 0, 0.9), (0, -0.1, 0.9), (0.05, -0.1, 0.5), (0, -0.1, 0.1), (0, 0.1, 0.9), (0.05, 0.1, 0.5), (0, 0.1, 0.1),
    (0, 0, 1.15), (0, 0, 1.4), (0.05, 0, 1.5), (0, 0, 1.65), (0, 0.2, 1.4), (0, 0.25, 1.1), (0.1, 0.25, 0.9),
    (0, -0.2, 1.4), (0, -0.25, 1.1), (0.1, -0.25, 0.9),
])  # fmt: skip


def people(frames: int, seed: int = 0) -> np.ndarray:
    """(T, 17, 3) metres, z up: somebody who moves a little on the spot."""
    rng = np.random.default_rng(seed)
    return STANDING + rng.normal(0, 0.03, (frames, 17, 3)) + rng.normal(0, 0.2, (frames, 1, 3))


def y_down(points: np.ndarray) -> np.ndarray:
    """z up -> the world of the capture, y down: x stays."""
    return np.stack((points[..., 0], -points[..., 2], points[..., 1]), -1)


def project(points: np.ndarray, focal: float, centre: tuple[float, float]) -> np.ndarray:
    return focal * points[..., :2] / points[..., 2:] + np.array(centre)


def write_training(folder: Path, frames: int = 6, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """S1/Seq1 in `folder`: annot.mat and camera.calibration -> the people (T, 17, 3), z up, pixels in each camera."""
    world, rng = people(frames, seed), np.random.default_rng(seed)
    cells = {key: np.empty((14, 1), object) for key in ("annot2", "annot3", "univ_annot3")}
    lines, views = ["Skeletool Camera Calibration File V1.0"], []
    for number in range(14):
        angle = 2 * np.pi * number / 14
        rotation = np.array([(np.cos(angle), 0, -np.sin(angle)), (0, 1, 0), (np.sin(angle), 0, np.cos(angle))])
        translation = np.array([0.1 * number, 1.2, 4.0])
        seen = y_down(world) @ rotation.T + translation
        pixels = project(seen, 1500, (1020, 1040))
        points = rng.normal(size=(frames, 28, 3))
        points[:, PLACES] = seen
        flat = rng.uniform(0, 2048, (frames, 28, 2))
        flat[:, PLACES] = pixels
        cells["annot2"][number, 0] = flat.reshape(frames, -1)
        cells["annot3"][number, 0] = 1000 * points.reshape(frames, -1)
        cells["univ_annot3"][number, 0] = 1000 * UNIVERSAL * points.reshape(frames, -1)
        intrinsic = [1500, 0, 1020, 0, 0, 1500, 1040, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        extrinsic = np.vstack((np.column_stack((rotation, 1000 * translation)), (0, 0, 0, 1))).ravel().tolist()
        lines += [f"name          {number}", "  sensor      10 10", "  size        2048 2048", "  animated    0"]
        lines += [f"  intrinsic   {' '.join(map(str, intrinsic))} ", f"  extrinsic   {' '.join(map(str, extrinsic))} "]
        lines += ["  radial      0"]
        views.append(pixels)
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "annot.mat", {**cells, "frames": np.arange(frames), "cameras": np.arange(14)})
    (folder / "camera.calibration").write_text("\n".join(lines) + "\n")
    return world, views


def write_testing(folder: Path, valid: str, activity: str, seed: int = 0, **changes) -> tuple[np.ndarray, np.ndarray]:
    """TS1 in `folder`: annot_data.mat, a frame for each character of `valid` (0 or 1) and `activity` (1 to 7) -> the
    people in the camera's frame, metres, and their pixels.
    """
    seen = y_down(people(len(valid), seed)) + np.array([0.2, 1.2, 4.5])
    pixels = project(seen, 1490, (1015, 1043))
    order = [H36M_17.index(joint) for joint in MPI_INF_3DHP_17.joints]
    points = 1000 * seen[:, None, order]
    arrays = {
        "annot2": pixels[:, None, order], "annot3": 1.1 * points, "univ_annot3": points,
        "valid_frame": np.array([[float(flag)] for flag in valid]), "bb_crop": np.zeros((len(valid), 4)),
        "activity_annotation": np.array([[float(number)] for number in activity]),
    } | changes  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "annot_data.mat", "w", userblock_size=512) as file:  # as MATLAB writes its version 7.3
        for key, value in arrays.items():
            if value is not None:
                file[key] = value
    with open(folder / "annot_data.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return seen, pixels
