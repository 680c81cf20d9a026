"""One person's video lifted by any network of this package: 2D input as its method normalises it -> poses."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.skeleton import H36M_16, H36M_17, convert
from models.adversarial.predict import predictor
from models.teacher import published_pose

BATCH = 1 << 12


@torch.inference_mode()
def camera_poses(network: nn.Module, method: str, keypoints: Tensor, camera: str = "", factor: float = 1.0) -> Tensor:
    """Poses of every frame, in the axes of the camera (x right, y down, z forward), the hip at the origin.

    Args:
        network: in evaluation mode.
        method: "teacher", "student", "mlp", "gcn", "videopose", "stgcn" or "gan".
        keypoints: (T, J, 2), T consecutive frames, of `methods.lifters.lifter_input`.
        camera, factor: of a gan (`gan_predict.predictor`).

    Returns:
        (T, 17, 3) float32, in metres from PoseAug's four lifters, in the network's own unit from the others. A joint
        that the 16-joint lifters lack, the neck, is halfway from thorax to head.
    """
    if getattr(network, "receptive_field", 1) > 1:
        pose = over_time(network, keypoints)
    else:
        forward = forward_of(network, method, camera, factor)
        pose = torch.cat([forward(part) for part in keypoints.split(BATCH)])
    pose = pose.float()
    if pose.shape[1] == H36M_16.num_joints:
        pose = convert(pose, H36M_16, H36M_17)
    return pose - pose[:, :1]


def forward_of(network: nn.Module, method: str, camera: str, factor: float) -> Callable[[Tensor], Tensor]:
    if method == "teacher":
        return lambda keypoints: published_pose(network, keypoints)
    if method == "student":
        return lambda keypoints: network(keypoints).pose
    if method == "gan":
        predict = predictor(network, camera, factor)
        return lambda keypoints: predict(keypoints).pose
    return network


def over_time(network: nn.Module, keypoints: Tensor) -> Tensor:
    """(T, J, 2) -> (T, J, 3) by VideoPose3D over windows; beyond the ends the first and the last frame are repeated."""
    before, after = network.pad + network.causal_shift, network.pad - network.causal_shift
    flat = F.pad(keypoints.flatten(1).t().unsqueeze(0), (before, after), mode="replicate")
    padded = flat.squeeze(0).t().unflatten(1, keypoints.shape[1:])
    frames = network.receptive_field - 1
    parts = [
        network.sequences(padded[start : start + BATCH + frames].unsqueeze(0)).squeeze(0)
        for start in range(0, len(keypoints), BATCH)
    ]
    return torch.cat(parts)
