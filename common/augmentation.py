"""Training poses made as various as people and detectors are: bodies of other builds, other poses, joints where
detectors put them, keypoints as detectors find them.

Functions of tensors and of a generator; they draw for B poses, or windows of F poses of one person, on the poses'
device. J = 16, `common.skeleton.H36M_16`, where no skeleton is given.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from common.bones import bone_vectors, pose_from_bones
from common.lifter_input import size_of
from common.rotation import so3_exp_exact
from common.skeleton import H36M_16 as S
from common.skeleton import Skeleton

BUILD = 0.1  # share by which all bones of a body may be longer or shorter together
DETECTED = 0.75  # share of people whose joints are those of detectors
WIDTHS = {"hip": (0.3, 0.5), "shoulder": (0.55, 0.75)}  # from left to right, over the trunk's length, as BlazePose's
HIPS_UP = (-0.07, 0.02)  # metres
KNOT = 6  # frames over which a detector's error drifts
# Of keypoints at strength 1, as shares of the body's size in the picture (mean distance from the hip).
DEVIATION, FAR_OFF = 0.06, 0.4
OUTLIERS, SWAPS, MISSING = 0.02, 0.02, 0.03  # shares of joints, of poses, of joints
_LIMBS = tuple(
    tuple((S.index(f"left {joint}"), S.index(f"right {joint}")) for joint in limb)
    for limb in (("shoulder", "elbow", "wrist"), ("hip", "knee", "foot"))
)

# Turns of a body: each within another one, and as a share of the largest. The bone to a joint is turned by ...
_TURNS = {"body": ("", 1.0), "spine": ("body", 0.75)}
_TURNED_BY = {"left hip": "body", "right hip": "body", "spine": "body", "thorax": "spine", "head": "spine"}
for _side in ("left", "right"):
    for _joints, _trunk in ((("hip", "knee", "foot"), "body"), (("shoulder", "elbow", "wrist"), "spine")):
        _root, _middle, _end = (f"{_side} {_joint}" for _joint in _joints)
        _TURNS |= {_root: (_trunk, 1.0), _middle: (_root, 0.5)}
        _TURNED_BY |= {_root: _trunk, _middle: _root, _end: _middle}


def _uniform(shape: tuple[int, ...], low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, device=like.device, generator=generator) * (high - low) + low


def vary_bones(poses: Tensor, amount: float, generator: torch.Generator, skeleton: Skeleton = S) -> Tensor:
    """Bodies of other builds: every bone up to `amount` longer or shorter, both sides alike, and all together by
    `BUILD`. poses (B, J, 3) or (B, F, J, 3), of any skeleton -> the same shape, the root where it was.
    """
    factors = _uniform((len(poses), skeleton.num_joints), 1 - amount, 1 + amount, poses, generator).unbind(1)
    partner = dict(zip(skeleton.right, skeleton.left, strict=True))
    whole = _uniform((len(poses),), 1 - BUILD, 1 + BUILD, poses, generator)
    of_bones = torch.stack([whole * factors[partner.get(child, child)] for _, child in skeleton.bones], 1)
    of_bones = of_bones.view(-1, *(1,) * (poses.dim() - 3), len(skeleton.bones), 1)
    return pose_from_bones(bone_vectors(poses, skeleton) * of_bones, poses[..., skeleton.root, :], skeleton)


def vary_pose(poses: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Other poses: the body leans, bends at the spine, and turns arms and legs at their joints, by up to `degrees`,
    knees and elbows by half of that; each of these in every other person, small turns more often than large ones.
    poses (B, J, 3) or (B, F, J, 3) -> the same shape, the root where it was; a window's turns are the same in all of
    its frames.
    """
    shape = (len(poses), len(_TURNS))
    most = math.radians(degrees) * torch.tensor([share for _, share in _TURNS.values()], device=poses.device)
    angles = most * _uniform(shape, 0, 1, poses, generator) ** 1.5 * (_uniform(shape, 0, 1, poses, generator) < 0.5)
    axes = F.normalize(torch.randn(*shape, 3, device=poses.device, generator=generator), dim=-1)
    turns: dict[str, Tensor] = {}
    for (name, (within, _)), turn in zip(
        _TURNS.items(), so3_exp_exact(axes * angles[..., None]).unbind(1), strict=True
    ):
        turns[name] = turns[within] @ turn if within else turn
    of_bones = torch.stack([turns[_TURNED_BY[S.joints[child]]] for _, child in S.bones], 1)
    bones = torch.einsum("bnij,b...nj->b...ni", of_bones, bone_vectors(poses, S))
    return pose_from_bones(bones, poses[..., S.root, :], S)


def detectors_joints(poses: Tensor, generator: torch.Generator) -> Tensor:
    """Most people (`DETECTED` of them) with their joints where detectors of keypoints put them.

    Hips and shoulders are as far apart as `WIDTHS` says, whatever a data set takes for them, the hips mostly lower;
    hip, spine and thorax come to lie between them; the top of the head is guessed from the nose, as far above it as
    that is above the thorax (`common.video.layouts`), and so in front of where it is.
    poses (B, J, 3) or (B, F, J, 3), metres, world frame (not a mirror image) -> the same shape.
    """
    one = (len(poses), *(1,) * (poses.dim() - 1))
    joints = list(poses.unbind(-2))
    at = {name: place for place, name in enumerate(S.joints)}

    def draw(low: float, high: float) -> Tensor:
        return _uniform(one[:-1], low, high, poses, generator)

    up = F.normalize(joints[at["thorax"]] - joints[at["hip"]], dim=-1)
    left = F.normalize(joints[at["left shoulder"]] - joints[at["right shoulder"]], dim=-1)
    forward = torch.linalg.cross(left, up)
    sides = {pair: (joints[at[f"left {pair}"]], joints[at[f"right {pair}"]]) for pair in WIDTHS}
    middles = {pair: (a + b) / 2 for pair, (a, b) in sides.items()}
    middles["hip"] = middles["hip"] + up * draw(*HIPS_UP)
    trunk = torch.linalg.vector_norm(middles["shoulder"] - middles["hip"], dim=-1, keepdim=True)
    for pair, (a, b) in sides.items():
        middle, apart = middles[pair], F.normalize(a - b, dim=-1) / 2 * trunk * draw(*WIDTHS[pair])
        joints[at[f"left {pair}"]], joints[at[f"right {pair}"]] = middle + apart, middle - apart
        joints[at["hip" if pair == "hip" else "thorax"]] = middle
    hip, thorax, head = (joints[at[name]] for name in ("hip", "thorax", "head"))
    joints[at["spine"]] = (hip + thorax) / 2
    nose = (head - thorax) * draw(0.5, 0.85) + forward * draw(0.04, 0.16) + left * draw(-0.06, 0.06)
    joints[at["head"]] = thorax + 2 * nose
    chosen = _uniform(one, 0, 1, poses, generator) < DETECTED
    return torch.where(chosen, torch.stack(joints, -2), poses)


def detector_noise(keypoints: Tensor, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Keypoints as a detector finds them: (B, J, 2) or (B, F, J, 2) -> the same shape, and confidences (..., J).

    Each person is found well or badly, each joint of it better or worse; the errors of a window drift as well as
    jitter. Some joints are far off, some poses have the sides of arms or legs exchanged, and joints that are missing
    come to lie on their neighbour nearer to the root.
    """
    flat = keypoints if keypoints.dim() == 4 else keypoints.unsqueeze(1)
    count, frames, joints = flat.shape[:3]
    size = size_of(flat - flat[:, :, S.root : S.root + 1])
    level = _uniform((count, 1, 1, 1), 0, 1, flat, generator) * _uniform(
        (count, 1, joints, 1), 0.3, 1.7, flat, generator
    )
    errors = DEVIATION * strength * level * _drifting((count, frames, joints, 2), flat, generator)
    chance = torch.rand(4, count, frames, joints, device=flat.device, generator=generator)
    far = (chance[0] < OUTLIERS * strength).unsqueeze(-1)
    errors = errors + far * FAR_OFF * torch.randn(flat.shape, device=flat.device, generator=generator)
    found = list((flat + size * errors).unbind(2))
    for limb, swapped in zip(_LIMBS, (chance[1, :, :, :2] < SWAPS * strength).unsqueeze(-1).unbind(2), strict=True):
        for left, right in limb:
            a, b = found[left], found[right]
            found[left], found[right] = torch.where(swapped, b, a), torch.where(swapped, a, b)
    missing = chance[2] < MISSING * strength
    for parent, child in S.bones:
        found[child] = torch.where(missing[:, :, child, None], found[parent], found[child])
    doubt = level.squeeze(-1) * 0.4 * strength + far.squeeze(-1) * chance[3]
    confidence = ((1 - doubt).clamp(0.05, 1) * ~missing).view(keypoints.shape[:-1])
    return torch.stack(found, 2).view_as(keypoints), confidence


def _drifting(shape: tuple[int, int, int, int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Normal noise (B, F, J, 2) of deviation about 1; over several frames two thirds of its variance drift."""
    count, frames, joints, axes = shape
    white = torch.randn(shape, device=like.device, generator=generator)
    if frames == 1:
        return white
    knots = torch.randn(count, joints * axes, frames // KNOT + 2, device=like.device, generator=generator)
    slow = F.interpolate(knots, frames, mode="linear", align_corners=True).transpose(1, 2).reshape(shape)
    return (2 / 3) ** 0.5 * slow + (1 / 3) ** 0.5 * white
