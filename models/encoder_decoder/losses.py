"""Losses of the encoder-decoder: images in pixels, edges and features, poses normalised or scale-aligned.

Rhodin, Salzmann, Fua, "Unsupervised geometry-aware representation for 3D human pose estimation" (ECCV 2018), sections
3.1 and 4; weights as its code has them. Images are (B, 3, H, W), normalised as ImageNet's, poses (B, 3 J), x0 y0 z0 ...
Everything is computed in float32 at least, whatever autocast says; only the feature network obeys it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.layers import full_precision, no_autocast
from models.resnet import ResNet

# ------------------------------------------------------------ images


class ImageWeights(NamedTuple):
    """Weights of the image terms; all of them work (the published code ignores rgb's value and gradient's at all)."""

    rgb: float = 1.0
    gradient: float = 0.0
    imagenet: float = 2.0


class ImageLoss(NamedTuple):
    """total: the weighted sum; the terms as they are, None where the weight is 0. Scalars."""

    total: Tensor
    rgb: Tensor | None
    gradient: Tensor | None
    imagenet: Tensor | None


def image_loss(
    pred: Tensor,
    target: Tensor,
    features: "FeatureNet | None" = None,
    weights: ImageWeights | None = None,
    mae: bool = True,
) -> ImageLoss:
    """What the novel view synthesis minimises. pred, target: (B, 3, H, W).

    features: without it the term `imagenet` is off; weights: None are the published ones; mae: mean absolute
    differences (published), else squared ones.
    """
    weights = weights or ImageWeights()
    terms = (
        pixel_loss(pred, target, mae) if weights.rgb else None,
        gradient_loss(pred, target, mae) if weights.gradient else None,
        perceptual_loss(features, pred, target, mae) if weights.imagenet and features is not None else None,
    )
    total = full_precision(pred).new_zeros(())
    for weight, term in zip(weights, terms, strict=True):
        if term is not None:
            total = total + weight * term
    return ImageLoss(total, *terms)


def pixel_loss(pred: Tensor, target: Tensor, mae: bool = True) -> Tensor:
    """Mean absolute (or squared) difference, scalar."""
    distance = F.l1_loss if mae else F.mse_loss
    with no_autocast(pred):
        return distance(full_precision(pred), full_precision(target))


def gradient_loss(pred: Tensor, target: Tensor, mae: bool = True) -> Tensor:
    """Mean absolute (or squared) difference of Sobel derivatives along x and y, scalar. Images of 3 x 3 pixels up."""
    with no_autocast(pred):
        difference = full_precision(pred) - full_precision(target)  # Sobel's filter is linear
        terms = [edges.abs() if mae else edges.square() for edges in sobel(difference)]
        return torch.stack([term.mean() for term in terms]).mean()


def sobel(images: Tensor) -> tuple[Tensor, Tensor]:
    """Differences over two pixels along x and along y, smoothed across by 1/4 [1 2 1]. (..., H, W) -> (..., H-2, W-2).

    By slices: kernels would have to come from the host in every step.
    """

    def smooth(x: Tensor, axis: int) -> Tensor:
        size = x.shape[axis] - 2
        return (x.narrow(axis, 0, size) + 2 * x.narrow(axis, 1, size) + x.narrow(axis, 2, size)) / 4

    along_x, along_y = images[..., 2:] - images[..., :-2], images[..., 2:, :] - images[..., :-2, :]
    return smooth(along_x, -2), smooth(along_y, -1)


def perceptual_loss(features: "FeatureNet", pred: Tensor, target: Tensor, mae: bool = True) -> Tensor:
    """Mean over three feature maps of their mean absolute (or squared) difference, scalar."""
    found = features(pred)
    with torch.no_grad():
        wanted = features(target)
    losses = [pixel_loss(a, b, mae) for a, b in zip(found, wanted, strict=True)]
    return torch.stack(losses).mean()


class FeatureNet(ResNet):
    """ImageNet's ResNet-18 up to layer2, frozen: images (B, 3, H, W) -> three maps, from (B, 64, H/2, W/2) on.

    Args:
        pool: the 3 x 3 pooling between the first map and layer1 (published: on).
        batch_statistics: as published; the network is never put in evaluation mode, so it normalises by each batch, the
            synthesised and the true one apart, and its running statistics (which nothing reads) drift. It changes the
            loss, so it is the default; False uses ImageNet's statistics. `train()` and `eval()` do not change it.
    """

    def __init__(self, pool: bool = True, batch_statistics: bool = True):
        super().__init__(18, stages=2)
        self.pool, self.batch_statistics = pool, batch_statistics
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "FeatureNet":
        """Keep the statistics that the constructor was told, whatever the mode."""
        return super().train(self.batch_statistics)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = self.stem(images)
        second = self.layer1(F.max_pool2d(first, 3, 2, 1) if self.pool else first)
        return first, second, self.layer2(second)


# ------------------------------------------------------------ poses


def squared_pose_errors(pred: Tensor, target: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Mean squared error of each normalised pose. (B, 3 J) each -> (B,).

    pred: as the pose head gives it, normalised; target, mean, std: in the labels' unit. Coordinates that never vary
    (std 0: the root of root-relative poses) have the target 0.
    """
    with no_autocast(pred):
        wanted = torch.where(std == 0, 0.0, (target - mean) / torch.where(std == 0, 1.0, std))
        return (full_precision(pred) - wanted).square().mean(-1)


def pose_loss(pred: Tensor, target: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Training loss of the pose head, the mean of `squared_pose_errors`, scalar."""
    return squared_pose_errors(pred, target, mean, std).mean()


def restore_pose(pred: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """A normalised pose in the labels' unit. (B, 3 J) each -> (B, J, 3)."""
    with no_autocast(pred):
        return torch.addcmul(mean, full_precision(pred), std).unflatten(-1, (-1, 3))


def least_squares_scale(pred: Tensor, target: Tensor) -> Tensor:
    """The scale about the origin that brings each pose nearest to its target. (B, J, 3) each -> (B,); 0 for a point."""
    product, square = (pred * target).sum((-2, -1)), pred.square().sum((-2, -1))
    return product / torch.where(square == 0, 1.0, square)


def without_root(error: Tensor, joints: int) -> Tensor:
    """A mean over `joints` joint errors, the root's being 0, as the mean over the others."""
    return error * joints / (joints - 1)
