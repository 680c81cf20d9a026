"""Reference vectors of PoseAug's four lifters: forward passes, flip averaging, evaluation, and their graphs."""

import torch

import models
from common import metrics
from common.skeleton import H36M_16, adjacency, mirror
from methods.poseaug.evaluation import flip_average
from models import graph, stgcn
from models.layers import centre
from tests.golden.rule import EXACT, Golden, Tolerance, filled_state, load_filled

INPUTS = ("input_2d", "target_3d")
METRIC_MM = Tolerance(absolute=1e-3)


def check(golden: Golden) -> None:
    """One lifter: output for poses and flat poses, for mirrored ones, and the published evaluation of both."""
    built = golden.meta["construction"]
    name, state = built["posenet_name"], filled_state(golden.layout, golden.salt)
    keypoints, target = golden["input_2d"], golden["target_3d"]

    sizes = {} if name == "stgcn" else {"stages": built["stages"]}

    def lifter(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
        return load_filled(models.create(name, dropout=built["dropout"], **sizes), weights)

    model = lifter(state)
    with torch.no_grad():
        pose, averaged = model(keypoints), flip_average(model, keypoints)
        golden.check("output_3d", pose)
        golden.check("output_3d", model(keypoints.flatten(1)))
        golden.check("flip_input_2d", mirror(keypoints, H36M_16))
        golden.check("flip_raw_output_3d", model(golden["flip_input_2d"]))
        golden.check("eval_p1_p2_mm", _errors(pose, target), METRIC_MM)
        golden.check("eval_flip_p1_p2_mm", _errors(averaged, target), METRIC_MM)
        if name == "gcn":
            golden.check("adjacency", adjacency(H36M_16))
            golden.check("boost_output_3d", lifter(_boosted(state))(keypoints))
    if name == "stgcn":
        _check_graphs(golden)


def _errors(pose: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """MPJPE and P-MPJPE of root-relative poses, millimetres."""
    pose, target = centre(pose).double(), centre(target).double()
    return 1000 * torch.stack([metrics.mpjpe(pose, target).mean(), metrics.p_mpjpe(pose, target).mean()])


def _boosted(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights at which the edges of the graph matter."""
    scale = {"W": -1, "e": 1}  # by the root of this axis's length
    return {
        key: value * value.shape[scale[end]] ** 0.5 if (end := key.rsplit(".", 1)[-1]) in scale else value
        for key, value in state.items()
    }


def _check_graphs(golden: Golden) -> None:
    """The matrices of ST-GCN's two graphs, of the 17 joints and of the 5 pooled nodes."""
    golden.check("A", graph.partitions(stgcn.BODY))
    golden.check("A_pool", graph.partitions(stgcn.LIMBS))
    golden.check("normalised_adjacency", graph.normalised_adjacency(stgcn.BODY))
    golden.check("dist_center", graph.distance_to_centre(stgcn.BODY), EXACT)
    golden.check("dist_center_pool", graph.distance_to_centre(stgcn.LIMBS), EXACT)
