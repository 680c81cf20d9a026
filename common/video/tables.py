"""Poses as tables of text: CSV for spreadsheets, TRC (Motion Analysis) for OpenSim."""

import os

import numpy as np
from numpy import ndarray as Array

from common.files.atomic import write_atomic
from common.skeleton import H36M_17


def write_csv(path: str | os.PathLike, poses: Array, frames: tuple[str, ...], times: Array) -> None:
    """Write poses (T, 17, 3), metres, z up: of each frame its name, its time in seconds, and the joints."""
    names = [f"{joint} {axis}" for joint in H36M_17.joints for axis in "xyz"]
    lines = [",".join(("frame", "time", *names))]
    for frame, time, pose in zip(frames, times.tolist(), poses.reshape(len(poses), -1).tolist(), strict=True):
        quoted = '"' + frame.replace('"', '""') + '"' if set(frame) & set(',"\r\n') else frame
        lines.append(",".join((quoted, f"{time:.6f}", *(f"{value:.5f}" for value in pose))))
    write_atomic(path, lambda file: file.write(("\n".join(lines) + "\n").encode()))


def write_trc(path: str | os.PathLike, poses: Array, fps: float, times: Array) -> None:
    """Write poses (T, 17, 3), metres, z up, as OpenSim reads markers: metres, y up."""
    points = np.stack((poses[..., 0], poses[..., 2], -poses[..., 1]), -1)
    names = [joint.replace(" ", "_") for joint in H36M_17.joints]
    count, markers = points.shape[:2]
    heads = "DataRate CameraRate NumFrames NumMarkers Units OrigDataRate OrigDataStartFrame OrigNumFrames".split()
    about = (f"{fps:g}", f"{fps:g}", count, markers, "m", f"{fps:g}", 1, count)
    lines = [f"PathFileType\t4\t(X/Y/Z)\t{os.path.basename(path)}", "\t".join(heads), "\t".join(map(str, about))]
    lines.append("Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t")
    lines.append("\t\t" + "\t".join(f"{axis}{i + 1}" for i in range(markers) for axis in "XYZ"))
    lines.append("")
    for number, (time, point) in enumerate(zip(times.tolist(), points.reshape(count, -1).tolist(), strict=True), 1):
        lines.append("\t".join((str(number), f"{time:.6f}", *(f"{value:.6f}" for value in point))))
    write_atomic(path, lambda file: file.write(("\n".join(lines) + "\n").encode()))
