"""Training step of each method, for `benchmarks.train_step`: model, data, losses, optimiser, scoring."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models
from benchmarks import gan, published
from common import metrics
from common.rotation import ITES_PI, random_rotations
from methods.ites.metrics import ites_evaluation
from models.adversarial.geometry import chen_lift
from models.layers import centre
from models.student import student_losses
from models.teacher import published_pose, teacher_losses

REPLICAS = 4  # rotated copies in the steps of teacher and student


@dataclass(frozen=True)
class Method:
    """loss, published_loss: (network, gathered data, rotations or None) -> scalar; none where several networks learn at
    once, in the step that the module `steps` makes. data: axes (J, D) and scale of the tensors that a step gathers
    from. turn: options of the random rotations; None where there are none.
    """

    name: str
    loss: Callable[[nn.Module, tuple[Tensor, ...], Tensor | None], Tensor] | None
    published_loss: Callable[[nn.Module, tuple[Tensor, ...], Tensor | None], Tensor] | None
    optimizer: Callable[..., torch.optim.Optimizer]
    predict: Callable[[nn.Module, Tensor], Tensor]
    errors: Callable[[Tensor, Tensor], Tensor]
    data: tuple[tuple[int, int, float], ...]
    batch_size: int
    turn: dict | None = None
    max_norm: float | None = None  # of the gradient
    sizes: dict = field(default_factory=dict)  # of the network
    steps: ModuleType | None = None

    def create(self) -> nn.Module:
        """The network with fresh weights."""
        return models.create(self.name, **self.sizes)

    def create_published(self) -> published.Published:
        """The network in the published layout."""
        return published.Published(self.name, **self.sizes)

    def tensors(self, count: int, device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
        """Random data, (count, J, D) each."""
        return tuple((scale * torch.randn(count, *axes)).to(device) for *axes, scale in self.data)

    def rotations(self, count: int, **options) -> Tensor | None:
        """Random rotations for a batch of `count` poses."""
        return None if self.turn is None else random_rotations(REPLICAS * count, **options, **self.turn)

    def clip(self, network: nn.Module) -> None:
        """Clip the gradient's norm, where the method does."""
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), self.max_norm)


def sgd(parameters, **options) -> torch.optim.Optimizer:
    """ITES's optimiser."""
    return torch.optim.SGD(parameters, 1e-3, momentum=0.9, weight_decay=5e-4, **options)


def adam(parameters, **options) -> torch.optim.Optimizer:
    """PoseAug's optimiser."""
    return torch.optim.Adam(parameters, 1e-3, **options)


def teacher_loss(model: nn.Module, data: tuple[Tensor, ...], rotations: Tensor) -> Tensor:
    """5 * reprojection + cycle."""
    losses = teacher_losses(model, data[0], rotations, align_root=True)
    return 5 * losses["reprojection"] + losses["cycle"]


def student_loss(model: nn.Module, data: tuple[Tensor, ...], rotations: Tensor) -> Tensor:
    """5 * depth + reconstruction."""
    losses = student_losses(model, *data, rotations)
    return 5 * losses["depth"] + losses["reconstruction"]


def lifter_loss(model: nn.Module, data: tuple[Tensor, ...], rotations: None) -> Tensor:
    """Mean squared error of the pose."""
    return F.mse_loss(model(data[0]).float(), data[1])


def ites_errors(pose: Tensor, target: Tensor) -> Tensor:
    """The published evaluation of both mirror solutions."""
    return ites_evaluation(pose, target).mpjpe


def lifter_errors(pose: Tensor, target: Tensor) -> Tensor:
    """Protocols 1 and 2, root-relative."""
    pose, target = centre(pose), centre(target)
    return metrics.mpjpe(pose, target) + metrics.p_mpjpe(pose, target)


def ites(name: str, loss: Callable, published_loss: Callable, predict: Callable, **options) -> Method:
    """A method of ITES."""
    return Method(name, loss, published_loss, sgd, predict, errors=ites_errors, batch_size=128, **options)


def lifter(name: str, **sizes) -> Method:
    """A lifter of PoseAug, with the rates of its published recipe."""
    return Method(
        name,
        lifter_loss,
        lifter_loss,
        adam,
        predict=lambda model, keypoints: model(keypoints),
        errors=lifter_errors,
        data=((16, 2, 0.2), (16, 3, 0.3)),
        batch_size=1024,
        max_norm=1.0,
        sizes=sizes,
    )


METHODS = {
    method.name: method
    for method in (
        ites("teacher", teacher_loss, published.teacher_loss, published_pose, data=((17, 2, 0.1),), turn={}),
        ites(
            "student",
            student_loss,
            published.student_loss,
            lambda model, keypoints: model(keypoints).pose,
            data=((17, 2, 0.1), (17, 1, 0.3)),
            turn={"axis_mask": (0.0, 1.0, 0.0), "max_angle": 2 * ITES_PI},
        ),
        lifter("mlp", stages=2, dropout=0.25),
        lifter("videopose", stages=4, dropout=0.25),
        lifter("gcn", stages=4, dropout=0.0),
        lifter("stgcn", dropout=-1),
        Method(
            "gan_lifter",
            None,
            None,
            adam,
            predict=lambda model, keypoints: chen_lift(keypoints, model(keypoints)),
            errors=lifter_errors,
            data=((17, 2, 0.1),),
            batch_size=4096,
            steps=gan,
        ),
    )
}
