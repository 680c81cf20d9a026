"""Non-local block over the joints of a pose (Wang et al., "Non-local Neural Networks", CVPR 2018), concatenation form
with max-pooled keys and values, as used between graph convolutions by SemGCN and the ITES student.

Node-major layout: features are (J, B, C).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.pointwise import Pointwise


class NonLocal(nn.Module):
    """y_i = W(sum_j f_ij g_j) with f_ij = ReLU(w . [theta_i, phi_j]) / pairs, j running over pairs of nodes.

    phi and g are the maximum over a pair: nodes 0 and 1, 2 and 3, and so on. The last of an odd number of nodes is in
    no pair: it is not looked at, but gets its own output.

    Args:
        channels: of input and output; inside there are half as many.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        # Sequences of one where the published code has a pooling or an activation in second place.
        self.g = nn.Sequential(Pointwise(channels, inner, spatial_dims=1))
        self.theta = Pointwise(channels, inner, spatial_dims=1)
        self.phi = nn.Sequential(Pointwise(channels, inner, spatial_dims=1))
        self.concat_project = nn.Sequential(Pointwise(2 * inner, 1, spatial_dims=2, bias=False))
        self.W = nn.Sequential(Pointwise(inner, channels, spatial_dims=1), nn.BatchNorm1d(channels))
        # The last norm starts at zero: an untrained branch adds nothing.
        nn.init.zeros_(self.W[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: (J, B, C) -> (J, B, C), to be added to x."""
        theta_weight, phi_weight = self.concat_project[0].matrix[0].chunk(2)
        paired = x[: len(x) // 2 * 2]
        # w . [theta_i, phi_j] = a_i + b_j, and a_i is linear in x_i: theta itself is never needed.
        a = x @ (theta_weight @ self.theta.matrix) + self.theta.bias @ theta_weight
        b = max_pool_nodes(self.phi(paired)) @ phi_weight
        g = max_pool_nodes(self.g(paired))
        f = F.relu(a.t().contiguous()[:, :, None] + b.t().contiguous()[:, None, :]) / len(b)
        y = torch.bmm(f, g.transpose(0, 1))
        return self.W(y.flatten(0, 1)).unflatten(0, y.shape[:2]).transpose(0, 1)


class GraphNonLocal(nn.Module):
    """The non-local block under the name that the released checkpoints give it (`non_local.non_local.*`)."""

    def __init__(self, channels: int):
        super().__init__()
        self.non_local = NonLocal(channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (J, B, C) -> (J, B, C), to be added to x."""
        return self.non_local(x)


def max_pool_nodes(x: Tensor) -> Tensor:
    """x: (2K, B, C) -> (K, B, C), the maximum of nodes 0 and 1, 2 and 3, and so on."""
    first, second = x.unflatten(0, (-1, 2)).unbind(1)
    # Unlike torch.maximum this gives the gradient of a tie to the first, as max pooling does, and it is cheaper.
    return torch.where(first >= second, first, second)
