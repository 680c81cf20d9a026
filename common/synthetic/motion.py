"""Articulated human motion: joint angles and foot placements -> joint positions, many frames at once (NumPy).

Body frame: x forward, y to the left, z up; metres and radians. World: metres, z up. Rotation matrices act on column
vectors here (`rotation @ point`). The right side is computed as the mirror image of the left one.
The trunk and the arms follow joint angles (forward kinematics). A leg is given by where its foot stands and by the turn
of its knee around the line from hip to foot (two-bone inverse kinematics), so that a planted foot does not slide.
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

# Width of each channel of a motion: every channel is an array (T, width).
CHANNELS = {
    "place": 2,  # world x, y of the point that the body stands on
    "heading": 1,  # world direction of the body, around z
    "pelvis": 3,  # hip joint from `place`: forward, left, height above the floor
    "tilt": 4,  # pelvis: pitch (forward), roll (to the right), yaw (to the left), turn about the long axis of the body
    "spine": 3,  # chest against pelvis: flexion, bend to the right, twist to the left
    "head": 3,  # head against chest: the same three
    "left_arm": 6,  # shoulder girdle up, shoulder girdle forward, arm forward, arm outward, inward turn, elbow flexion
    "right_arm": 6,
    "left_foot": 4,  # ankle in the world: x, y, z; knee turned outward
    "right_foot": 4,
}
ANKLE_HEIGHT = 0.085  # of a foot that stands flat on the floor
CLEARANCE = 0.04  # of the trunk and the arms above the floor
ELBOW_LIMIT = np.radians(150)
KNEE_LIMIT = np.radians(152)
ARM_LIMIT = np.radians(172)  # elevation of the upper arm
NEAREST = 0.34  # of the hip to the ankle, as a share of the leg
STRETCH = 0.992  # longest leg, as a share of the length of its bones


@dataclass(frozen=True)
class Body:
    """Bone lengths in metres (the same on both sides) and the build of the trunk, in radians."""

    hip: float
    thigh: float
    shin: float
    lower_spine: float
    upper_spine: float
    head: float  # thorax to top of the head
    clavicle: float
    upper_arm: float
    forearm: float
    shoulder_drop: float = np.radians(20)  # the clavicle falls this much towards the shoulder
    lordosis: float = np.radians(4)  # lower spine leans forward, upper spine back
    head_lean: float = np.radians(12)  # top of the head in front of the thorax

    @property
    def leg(self) -> float:
        """Hip to ankle, metres."""
        return self.thigh + self.shin

    @property
    def stand(self) -> float:
        """Height of the hip joint when standing upright."""
        return self.leg + ANKLE_HEIGHT


def turn(axis: int, angle: Array) -> Array:
    """Rotation matrices (..., 3, 3) by `angle` (...) about axis 0, 1 or 2."""
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.zeros((*np.shape(angle), 3, 3))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1
    matrix[..., a, a] = matrix[..., b, b] = cos
    matrix[..., a, b], matrix[..., b, a] = -sin, sin
    return matrix


def bend(angles: Array) -> Array:
    """(..., 3) flexion, sideways bend, twist -> rotation matrices (..., 3, 3): bend first, then flexion, then twist."""
    return turn(2, angles[..., 2]) @ turn(1, angles[..., 0]) @ turn(0, angles[..., 1])


def _apply(rotation: Array, vector: Array) -> Array:
    return np.einsum("...ij,...j->...i", rotation, vector)


def _unit(vector: Array) -> Array:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def _swing(vector: Array, forward: Array, outward: Array, sign: int = 1) -> Array:
    """Rotate `vector` (..., 3) as an arm that hangs down (-z) is raised by |(forward, outward)| in that direction."""
    angle = np.hypot(forward, outward)
    safe = np.maximum(angle, 1e-9)
    limited = np.minimum(angle, ARM_LIMIT) * sign
    axis = np.stack((outward / safe, -forward / safe, np.zeros_like(safe)), -1)
    cos, sin = np.cos(limited)[..., None], np.sin(limited)[..., None]
    along = (axis * vector).sum(-1, keepdims=True)
    return vector * cos + np.cross(axis, vector) * sin + axis * along * (1 - cos)


def arm_bones(body: Body, angles: Array) -> tuple[Array, Array, Array]:
    """Left arm angles (..., 6) -> clavicle, upper arm and forearm (..., 3) in the frame of the chest."""
    raised, forward_girdle, forward, outward, inward, elbow = np.moveaxis(angles, -1, 0)
    elbow = np.clip(elbow, 0, ELBOW_LIMIT)
    drop = raised - body.shoulder_drop
    level = np.cos(drop)
    clavicle = np.stack((level * np.sin(forward_girdle), level * np.cos(forward_girdle), np.sin(drop)), -1)
    down = np.broadcast_to(np.array((0.0, 0.0, -1.0)), clavicle.shape)
    hinge = np.stack((np.sin(elbow) * np.cos(inward), -np.sin(elbow) * np.sin(inward), -np.cos(elbow)), -1)
    upper, fore = _swing(down, forward, outward), _swing(hinge, forward, outward)
    return body.clavicle * clavicle, body.upper_arm * upper, body.forearm * fore


def arm_angles(body: Body, hand: Array, pole: Array, girdle: Array) -> Array:
    """Left arm angles (N, 6) that bring the wrist to `hand` (N, 3), in the frame of the chest from the thorax.

    `pole` (N, 3): where the elbow points. `girdle` (N, 2): the first two angles. Far targets are reached for in vain.
    """
    rest = np.concatenate((girdle, np.zeros((len(girdle), 4))), -1)
    reach = hand - arm_bones(body, rest)[0]
    shortest = np.sqrt(body.upper_arm**2 + body.forearm**2 + 2 * body.upper_arm * body.forearm * np.cos(ELBOW_LIMIT))
    elbow_at, distance = _two_bones(reach, pole, body.upper_arm, body.forearm, shortest, 0.998)
    upper = elbow_at / body.upper_arm
    fore = _unit(_unit(reach) * distance - elbow_at)
    elevation = np.arccos(np.clip(-upper[:, 2], -1, 1))
    direction = upper[:, :2] / np.maximum(np.hypot(upper[:, 0], upper[:, 1]), 1e-9)[:, None]
    forward, outward = (elevation[:, None] * direction).T
    hinge = _swing(fore, forward, outward, sign=-1)
    inward = np.arctan2(-hinge[:, 1], hinge[:, 0])
    elbow = np.arccos(np.clip(-hinge[:, 2], -1, 1))
    return np.concatenate((girdle, np.stack((forward, outward, inward, elbow), -1)), -1)


def _two_bones(reach: Array, pole: Array, first: float, second: float, shortest: float, stretch: float):
    """End of the first of two bones that span `reach` (..., 3), bent towards `pole`; the spanned length (..., 1)."""
    distance = np.linalg.norm(reach, axis=-1, keepdims=True)
    line = reach / np.maximum(distance, 1e-9)
    distance = np.clip(distance, shortest, stretch * (first + second))
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    across = np.sqrt(np.maximum(first**2 - along**2, 0))
    side = _unit(pole - line * (pole * line).sum(-1, keepdims=True))
    return line * along + side * across, distance


def _leg(body: Body, foot: Array, hip: Array, pelvis: Array, side: int) -> tuple[Array, Array]:
    """Knee and ankle (T, 3) of one leg in the world. The knee's hinge is the pelvis's sideways axis, turned outward."""
    reach = foot[:, :3] - hip
    # A foot that would pass right under a low hip goes round it on the outside.
    hinge, near = side * pelvis[..., 1], NEAREST * body.leg
    aside = (reach * hinge).sum(-1, keepdims=True)
    clear = near - ((reach**2).sum(-1, keepdims=True) - aside**2) / near
    reach = reach + hinge * np.maximum(np.minimum(clear - aside, 2 * clear), 0)
    line = _unit(reach)
    # A leg spread sideways runs along the hinge: there the knee points forward and up.
    along = (line * pelvis[..., 1]).sum(-1, keepdims=True)
    front = np.cross(line, pelvis[..., 1]) + 0.6 * along**2 * (pelvis[..., 0] + pelvis[..., 2])
    front = _unit(front - line * (front * line).sum(-1, keepdims=True))
    outward = side * np.cross(front, line)
    pole = front * np.cos(foot[:, 3:]) + outward * np.sin(foot[:, 3:])
    shortest = np.sqrt(body.thigh**2 + body.shin**2 + 2 * body.thigh * body.shin * np.cos(KNEE_LIMIT))
    bones = body.thigh, body.shin, shortest, STRETCH
    knee, distance = _two_bones(reach, pole, *bones)
    # A knee that would sink into the floor turns up from it, or outward where it points straight down.
    sunk = np.clip(1 - (hip + knee)[:, 2:] / 0.08, 0, 1)
    knee, distance = _two_bones(reach, pole + sunk * (outward + (0, 0, 1.5)), *bones)
    return hip + knee, hip + line * distance


def _within_reach(body: Body, root: Array, hips: list[Array], feet: list[Array]) -> Array:
    """Lower the root (T, 3) smoothly so that both feet can be reached; hips (T, 3) from the root, feet (T, 3)."""
    heights = [root[:, 2]]
    for hip, foot in zip(hips, feet, strict=True):
        level = ((root + hip - foot)[:, :2] ** 2).sum(-1)
        longest = (STRETCH * body.leg) ** 2
        heights.append(foot[:, 2] - hip[:, 2] + np.sqrt(np.maximum(longest - level, 0.1 * longest)))
    softness = 0.008
    lowest = -softness * np.log(np.exp(-(np.array(heights) - root[:, 2]) / softness).sum(0)) + root[:, 2]
    return np.concatenate((root[:, :2], lowest[:, None]), -1)


def pose(body: Body, motion: dict[str, Array]) -> Array:
    """Motion channels (T, width) -> world positions (T, 17, 3) of Human3.6M's 17 joints, metres."""
    heading = turn(2, motion["heading"][:, 0])
    tilt = motion["tilt"]
    pelvis = heading @ bend(tilt[:, :3]) @ turn(2, tilt[:, 3])
    root = _apply(heading, motion["pelvis"])
    root[:, :2] += motion["place"]
    joints = np.zeros((len(root), 17, 3))
    joints[:, 7:] = _upper_body(body, pelvis, motion)
    sideways = pelvis[..., 1]
    hips = [body.hip * sideways, -body.hip * sideways]
    feet = [motion["left_foot"], motion["right_foot"]]
    root = _within_reach(body, root, hips, [foot[:, :3] for foot in feet])
    joints[:, 4], joints[:, 1] = hips
    root[:, 2] = np.maximum(root[:, 2], CLEARANCE - joints[..., 2].min(1))
    joints += root[:, None]
    for side, first, foot in ((1, 4, feet[0]), (-1, 1, feet[1])):
        joints[:, first + 1], joints[:, first + 2] = _leg(body, foot, joints[:, first], pelvis, side)
    return joints


def above_floor(joints: Array, reach: int = 12) -> Array:
    """World positions (..., T, 17, 3), lifted as a whole wherever a joint is below the floor.

    The lift comes and goes smoothly, within about twice `reach` frames on either side.
    """
    sunk = np.maximum(-joints[..., 2].min(-1), 0)
    window, sides = 2 * reach + 1, [(0, 0)] * (sunk.ndim - 1) + [(2 * reach, 2 * reach)]
    held = np.lib.stride_tricks.sliding_window_view(np.pad(sunk, sides), window, axis=-1).max(-1)
    kernel = np.hanning(window + 2)[1:-1]  # a mean of maxima that all see the frame: never less than it needs
    lift = np.lib.stride_tricks.sliding_window_view(held, window, axis=-1) @ (kernel / kernel.sum())
    return joints + lift[..., None, None] * np.array((0.0, 0.0, 1.0))


def _upper_body(body: Body, pelvis: Array, motion: dict[str, Array]) -> Array:
    """Spine, thorax, neck, head and both arms (T, 10, 3) from the root."""
    low, high, chest = (pelvis @ bend(share * motion["spine"]) for share in (0.35, 0.8, 1.0))
    lean = np.array((np.sin(body.lordosis), 0, np.cos(body.lordosis)))
    spine = body.lower_spine * _apply(low, lean)
    thorax = spine + body.upper_spine * _apply(high, lean * (-1, 1, 1))
    nose, top = _apply(chest @ bend(motion["head"]), _head_shape(body)[:, None])
    joints = [spine, thorax, thorax + nose, thorax + top]
    for side, name in ((1, "left_arm"), (-1, "right_arm")):
        bones = np.array(arm_bones(body, motion[name])) * (1, side, 1)
        joints.extend(thorax + np.cumsum(_apply(chest, bones), 0))
    return np.stack(joints, 1)


def _head_shape(body: Body) -> Array:
    """Nose and top of the head (2, 3) from the thorax: a rigid triangle with the nose in front, as in Human3.6M."""
    to_nose, to_top = 0.665 * body.head, 0.632 * body.head
    along = (to_nose**2 - to_top**2 + body.head**2) / (2 * body.head)
    across = np.sqrt(to_nose**2 - along**2)
    up = np.array((np.sin(body.head_lean), 0, np.cos(body.head_lean)))
    front = np.array((np.cos(body.head_lean), 0, -np.sin(body.head_lean)))
    return np.stack((along * up + across * front, body.head * up))
