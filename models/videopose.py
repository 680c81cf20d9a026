"""VideoPose3D lifter (Pavllo et al., "3D Human Pose Estimation in Video with Temporal Convolutions and Semi-supervised
Training", CVPR 2019): residual temporal convolutions from 2D poses to the 3D pose of the middle (or last) frame. With
all kernels of width 1 it is the single-frame lifter of PoseAug (Gong et al., CVPR 2021).

Features are channels-last, (B, T, C), so that a convolution over frames is one matrix product. Two forms share the
weights: `forward` strides from a window of frames to one pose (training), `sequences` dilates over whole sequences.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError
from models.layers import full_precision, no_autocast, norm_relu_dropout, root_first


class VideoPose(nn.Module):
    """The temporal lifter; names and shapes of its parameters are those of the released checkpoints.

    Args:
        joints: J, for input and output.
        channels: channels of the trunk.
        stages: number of residual stages, where `architecture` is not given.
        architecture: odd kernel widths, "3,3,3" or (3, 3, 3): of the first convolution and of every stage. Without it,
            single frames: width 1 throughout. Three, four and five widths of 3 see 27, 81 and 243 frames.
        dropout: rate of zeros after every activation.
        causal: windows end at the frame whose pose they give; else it is in their middle.
        features: numbers that it sees of a joint in a frame; x and y, and what else it is trained on.

    Attributes:
        receptive_field: frames that one pose is made from.
        pad: frames before, and after, the middle of a window.
        causal_shift: frames by which a window reaches further back than one around its frame; 0 unless causal.
    """

    def __init__(
        self,
        joints: int = 16,
        channels: int = 1024,
        stages: int = 4,
        architecture: str | Sequence[int] | None = None,
        dropout: float = 0.25,
        causal: bool = False,
        features: int = 2,
    ):
        super().__init__()
        self.widths = kernel_widths(architecture) if architecture else (1,) * (stages + 1)
        self.joints, self.features, self.dropout, self.causal = joints, features, dropout, causal
        self.receptive_field = math.prod(self.widths)
        self.pad = self.receptive_field // 2
        self.causal_shift = self.pad if causal else 0

        def conv(width: int) -> nn.Conv1d:
            return nn.Conv1d(channels, channels, width, bias=False)

        self.expand_bn = nn.BatchNorm1d(channels)
        self.shrink = nn.Conv1d(channels, 3 * (joints - 1), 1)
        self.expand_conv = nn.Conv1d(features * joints, channels, self.widths[0], bias=False)
        self.layers_conv = nn.ModuleList(conv(width) for stage in self.widths[1:] for width in (stage, 1))
        self.layers_bn = nn.ModuleList(nn.BatchNorm1d(channels) for _ in self.layers_conv)

    def forward(self, keypoints: Tensor) -> Tensor:
        """One pose from each window, by strides: every frame of every layer goes into the result once.

        keypoints: (B, F, J, features) with F the receptive field, also (B, J, features) or (B, features J) if that is 1
        -> pose (B, J, 3), metres, joint 0 at the origin.
        """
        pose = (self.joints, self.features)
        if self.receptive_field == 1 and keypoints.shape[1:] in (pose, (math.prod(pose),)):
            frames = keypoints.reshape(-1, 1, math.prod(pose))
        else:
            frames = self._frames(keypoints)
            if frames.shape[1] != self.receptive_field:
                raise InputError(
                    f"windows of {frames.shape[1]} frames for a lifter whose receptive field is "
                    f"{self.receptive_field}: give it as many frames, or whole sequences to `sequences`"
                )
        return self._lift(frames, strided=True).squeeze(1)

    def sequences(self, keypoints: Tensor) -> Tensor:
        """The poses of all windows of whole sequences, by dilated convolutions.

        keypoints: (B, T, J, features), T at least the receptive field F -> (B, T - F + 1, J, 3), metres;
        pose i is that of frame i + pad, causal i + 2 pad. Pad the sequence with copies of its first and last frame for
        a pose of every frame.
        """
        frames = self._frames(keypoints)
        if frames.shape[1] < self.receptive_field:
            raise InputError(
                f"a sequence of {frames.shape[1]} frames for a lifter that sees {self.receptive_field} at once: pad it "
                "with copies of its first and last frame"
            )
        return self._lift(frames, strided=False)

    def _frames(self, keypoints: Tensor) -> Tensor:
        if keypoints.dim() != 4 or keypoints.shape[2:] != (self.joints, self.features):
            raise InputError(
                f"2D poses of shape {tuple(keypoints.shape)} for a lifter with a receptive field of "
                f"{self.receptive_field}: expected (batch, frames, {self.joints}, {self.features})"
            )
        return keypoints.flatten(2)

    def _lift(self, frames: Tensor, strided: bool) -> Tensor:
        """frames: (B, T, features J) -> (B, T', J, 3)."""
        x = self._layer(taps(frames, self.widths[0], None if strided else 1), self.expand_conv, self.expand_bn)
        dilation = self.widths[0]
        for i, width in enumerate(self.widths[1:]):
            step = None if strided else dilation
            seen = width - 1 if self.causal else width // 2  # the frame of the window that goes on as it is
            y = self._layer(taps(x, width, step), self.layers_conv[2 * i], self.layers_bn[2 * i])
            kept = x[:, seen::width] if strided else x[:, seen * dilation :][:, : y.shape[1]]
            x = kept + self._layer(y, self.layers_conv[2 * i + 1], self.layers_bn[2 * i + 1])
            dilation *= width
        x = full_precision(x)
        with no_autocast(x):
            return root_first(F.linear(x, self.shrink.weight.squeeze(2), self.shrink.bias))

    def _layer(self, x: Tensor, conv: nn.Conv1d, norm: nn.Module) -> Tensor:
        """x: (B, T, width * in) -> (B, T, out)."""
        y = F.linear(x, conv.weight.transpose(1, 2).flatten(1))
        return norm_relu_dropout(y.flatten(0, 1), norm, self.dropout, self.training).view_as(y)


def taps(x: Tensor, width: int, dilation: int | None) -> Tensor:
    """The frames under each place of a kernel, side by side: (B, T, C) -> (B, T', width * C).

    dilation: distance of the kernel's frames, with a place for every frame where it fits; None for neighbouring frames
    and places that share none.
    """
    if width == 1:
        return x
    if dilation is None:
        return x.unflatten(1, (-1, width)).flatten(2)
    places = x.shape[1] - (width - 1) * dilation
    return torch.cat([x[:, k * dilation : k * dilation + places] for k in range(width)], dim=2)


def kernel_widths(architecture: str | Sequence[int]) -> tuple[int, ...]:
    """ "3,3,3" -> (3, 3, 3): odd numbers, one for the first convolution and one for every stage."""
    words = architecture.split(",") if isinstance(architecture, str) else list(architecture)
    try:
        widths = tuple(int(word) for word in words)
    except ValueError:
        widths = ()
    if not widths or any(width < 1 or width % 2 == 0 for width in widths):
        raise InputError(f"architecture {architecture!r}: expected odd kernel widths with commas between, as 3,3,3")
    return widths
