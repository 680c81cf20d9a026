"""Non-local block over the joints of a pose (Wang et al., "Non-local Neural Networks", CVPR 2018), concatenation form
with max-pooled keys and values, as used between graph convolutions by SemGCN and the ITES student.

Node-major layout: features are (J, B, C).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.fast.norm_relu_dropout import keep_above
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
        return self.answer(*self.read(x))

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (J, B, C) -> what `answer` takes, without biases: queries w . theta_i (J, B); keys and values, the maxima
        of phi and of g side by side, (J // 2, B, C).
        """
        query, keys_values = self.matrices()
        return x @ query, max_pool_nodes(x @ keys_values.t())

    def matrices(self) -> tuple[Tensor, Tensor]:
        """-> query (C,) and keys and values (C, C), (out, in): w . [theta_i, phi_j] = a_i + b_j, and a_i is linear in
        x_i, so that theta itself is never needed.
        """
        theta_weight, _ = self.concat_project[0].matrix[0].chunk(2)
        return theta_weight @ self.theta.matrix, torch.cat((self.phi[0].matrix, self.g[0].matrix))

    def answer(self, query: Tensor, keys_values: Tensor) -> Tensor:
        """What `read` gave -> (J, B, C), to be added to x."""
        theta_weight, phi_weight = self.concat_project[0].matrix[0].chunk(2)
        a = query + self.theta.bias @ theta_weight
        phi, g = (keys_values + torch.cat((self.phi[0].bias, self.g[0].bias))).chunk(2, dim=-1)
        b = phi @ phi_weight
        f = F.relu(a.t().contiguous()[:, :, None] + b.t().contiguous()[:, None, :]) / len(b)
        y = torch.bmm(f, g.transpose(0, 1)).transpose(0, 1)  # node-major while it has few channels
        return self.W(y.flatten(0, 1)).unflatten(0, y.shape[:2])


class GraphNonLocal(nn.Module):
    """The non-local block under the name that the released checkpoints give it (`non_local.non_local.*`)."""

    def __init__(self, channels: int):
        super().__init__()
        self.non_local = NonLocal(channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (J, B, C) -> (J, B, C), to be added to x."""
        return self.non_local(x)


def max_pool_nodes(x: Tensor) -> Tensor:
    """x: (J, B, C) -> (J // 2, B, C), the maximum of nodes 0 and 1, 2 and 3, and so on; a tie's gradient goes to the
    first, as in max pooling.
    """
    if torch.compiler.is_compiling():
        first, second = pairs_of(x)
        return torch.where(first >= second, first, second)
    return _MaxPoolNodes.apply(x)


def pairs_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """x: (J, B, C) -> the first and the second of each pair of nodes, (J // 2, B, C) each."""
    return x[: len(x) // 2 * 2].unflatten(0, (-1, 2)).unbind(1)


def share_gradient(gradient: Tensor, second_is_more: Tensor, first: Tensor, second: Tensor) -> None:
    """The gradient of a pair's maximum goes to `second` where that is more, else to `first`; all (J // 2, B, C)."""
    keep_above(gradient, second_is_more, 0, out=second)
    torch.sub(gradient, second, out=first)


class _MaxPoolNodes(torch.autograd.Function):
    """`max_pool_nodes` without choices, which take several times as long on a CPU."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.maximum(*pairs_of(x))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradient of x."""
        (x,) = ctx.saved_tensors
        result = torch.empty_like(x)
        result[len(x) // 2 * 2 :] = 0
        (x_first, x_second), (first, second) = pairs_of(x), pairs_of(result)
        share_gradient(gradient, x_second - x_first, first, second)
        return result
