"""ITES's 2D input: keypoints relative to the root, over the focal length, at one scale for a whole split."""

from torch import Tensor

from common.errors import InputError
from common.pose_set import PoseSet
from common.virtual_cameras import Views


def network_input(pose_set: PoseSet, root_to_head: float = 0.2) -> Tensor:
    """What teacher and student see of a split: `normalise` of its keypoints, (N, J, 2) float32."""
    skeleton = pose_set.skeleton
    focal = pose_set.intrinsics()[:, :2].index_select(0, pose_set.sequence)
    return normalise(pose_set.keypoints, focal, skeleton.root, skeleton.index("head"), root_to_head)


def view_input(views: Views, root: int = 0) -> Tensor:
    """What teacher and student see of a virtual camera's views, but for the scale of a split, (B, J, 2)."""
    return _over_focal(views.keypoints, views.intrinsics[:, :2], root)


def scale_root_to_head(keypoints: Tensor, root: int = 0, head: int = 10, length: float = 0.2) -> Tensor:
    """Keypoints (N, J, 2) times one scalar for the whole split, so that the mean distance root-head is `length`."""
    return keypoints * root_to_head_scale(keypoints, root, head, length)


def normalise(pixels: Tensor, focal: Tensor, root: int = 0, head: int = 10, length: float = 0.2) -> Tensor:
    """ITES's 2D input: keypoints (N, J, 2) in pixels, focal lengths (N, 2) or (2,) in pixels -> (N, J, 2).

    Root-relative, divided by the focal lengths, then scaled by `scale_root_to_head`: at distance 5 the body is one unit
    from hip to head. The scalar depends on the split, so a subset of actions gets other inputs: the published protocol.
    """
    points = _over_focal(pixels, focal, root)
    points *= root_to_head_scale(points, root, head, length)
    return points


def _over_focal(points: Tensor, focal: Tensor, root: int) -> Tensor:
    points = points - points[:, root : root + 1]
    points /= focal.unsqueeze(-2)
    return points


def root_to_head_scale(points: Tensor, root: int = 0, head: int = 10, length: float = 0.2) -> Tensor:
    """The scalar, in float64: a float32 sum over 1.5 million rows loses digits."""
    mean = (points[:, head] - points[:, root]).double().norm(dim=-1).mean()
    if not mean > 0:
        raise InputError("the 2D keypoints of root and head fall together in every frame: no scale can be found")
    return length / mean
