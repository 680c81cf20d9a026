"""GIFs and pages of the poses that an ITES network finds."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.draw import animation, page
from common.draw.scene import camera_azimuth, to_z_up
from common.errors import InputError
from common.files.names import file_name
from common.pose_set import PoseSet, Sequence
from methods.ites.metrics import calibrate_by_procrustes, calibrate_by_scale, depth_flip, ites_evaluation
from methods.ites.protocol import PROTOCOL, RECORDED_FPS, Predict

GIF_FPS = 25.0


def chosen_sequences(split: PoseSet, args: Any) -> list[Sequence]:
    """The sequences that --vis-subject, --vis-action and --vis-camera name; by default the first."""
    in_view = [s for s in split.sequences if s.view == args.vis_camera]
    if not in_view:
        views = sorted({s.view for s in split.sequences})
        raise InputError(f"--vis-camera {args.vis_camera}: no such camera; there are {', '.join(map(str, views))}")
    chosen = []
    for subject in _names(args.vis_subject) or [in_view[0].subject]:
        own = [s for s in in_view if s.subject == subject]
        if not own:
            raise InputError(f"--vis-subject {subject}: not among the test subjects ({args.subjects_test})")
        for action in _names(args.vis_action) or [own[0].action]:
            start = split.find(subject, action, args.vis_camera).start
            chosen.append(next(s for s in own if s.start == start))
    return chosen


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@torch.no_grad()
def draw_sequences(predict: Predict, split: PoseSet, args: Any, folder: Path, name: str) -> list[Path]:
    """Write one GIF for each chosen sequence, at its true speed: 2D input, aligned prediction, truth.

    The prediction is aligned frame by frame as published for pictures (`calibrate_by_procrustes`).
    """
    targets = split.targets()
    step = max(1, round(RECORDED_FPS / args.downsample / GIF_FPS))
    files = []
    for sequence in chosen_sequences(split, args):
        stop = sequence.start + min(sequence.length, step * args.vis_frames)
        rows = slice(sequence.start, stop, step)
        pose, target = predict(split.inputs[rows]).float(), targets[rows]
        errors = 1000 * ites_evaluation(pose, target).mpjpe
        pose, target = pose - pose[:, :1], target - target[:, :1]
        aligned = calibrate_by_procrustes(pose, target).aligned
        orientation = sequence.camera.orientation
        path = folder / f"{name}_{file_name(f'{sequence.subject}_{sequence.action}')}_camera{sequence.view}.gif"
        animation.save_animation(
            path,
            [split.keypoints[rows].cpu(), *(to_z_up(p.cpu(), orientation) for p in (aligned, target))],
            [f"2D input ({args.keypoints})", f"{name} (aligned)", f"truth: {sequence.subject} {sequence.action}"],
            split.skeleton, fps=RECORDED_FPS / args.downsample / step, errors=np.asarray(errors.cpu()),
            metric="ITES MPJPE", azimuth=camera_azimuth(orientation),
        )  # fmt: skip
        files.append(path)
    return files


@torch.no_grad()
def write_page(predict: Predict, split: PoseSet, args: Any, name: str) -> Path:
    """Write `--vis-html` of the first chosen sequence: both depth mirrors in the truth's scale, and the truth.

    The published MPJPE is, frame by frame, the lower of the two curves in the page.
    """
    recording = chosen_sequences(split, args)[0]
    rows = page.rows(recording)
    pose, target = predict(split.inputs[rows]).float(), split.targets()[rows]
    errors = ites_evaluation(pose, target)
    scaled = calibrate_by_scale(pose, target)
    poses = {name: scaled, f"{name}, depth mirrored": depth_flip(scaled)}
    return page.write_recording(
        args.vis_html, split, recording, {key: p - p[:, :1] for key, p in poses.items()}, target - target[:, :1],
        fps=RECORDED_FPS / args.downsample, metric="MPJPE in the truth's scale",
        errors=dict(zip(poses, (1000 * errors.mpjpe_pose, 1000 * errors.mpjpe_flip), strict=True)),
        about=f"{args.dataset}, 2D input {args.keypoints}; the {PROTOCOL} takes the lower of both curves in each frame",
    )  # fmt: skip
