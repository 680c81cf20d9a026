"""PoseAug's 2D inputs: keypoints and cameras of a `PoseSet` in screen coordinates."""

from typing import NamedTuple

import torch
from torch import Tensor

from common.pose_set import PoseSet


class ScreenInputs(NamedTuple):
    """The 2D side of a `PoseSet`, on its device."""

    keypoints: Tensor  # (N, J, 2) float32, screen-normalised: x in [-1, 1] over the width, y with the same scale
    intrinsics: Tensor  # (S, 9) float32, as Camera.intrinsics("screen"): focal / w * 2, normalised centre, k, p
    sequence: Tensor  # (N,) int32, index of every item's row of `intrinsics`


def screen_inputs(pose_set: PoseSet) -> ScreenInputs:
    """Keypoints of every item (as `common.camera.normalise_screen`) and intrinsics of every sequence.

    `common.camera.project(poses, intrinsics[sequence])` gives exact keypoints again.
    """
    width, height = pose_set.resolution.unbind(-1)  # (S,)
    corner = torch.stack((torch.ones_like(width), height / width), -1)
    keypoints = pose_set.keypoints / width.index_select(0, pose_set.sequence)[:, None, None]
    keypoints *= 2  # in place: a training set is 200 MB
    keypoints -= corner.index_select(0, pose_set.sequence)[:, None]
    focal = pose_set.intrinsics[:, :2] / width[:, None] * 2
    return ScreenInputs(keypoints, torch.cat((focal, pose_set.intrinsics[:, 2:]), -1), pose_set.sequence)
