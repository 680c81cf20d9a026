"""What ITES's steps see by virtual cameras."""

from types import SimpleNamespace

import torch

from common.pose_set import PoseSet, Sequence, sequence_index
from common.run.run import Run
from common.skeleton import H36M_17
from common.virtual_cameras import CameraRanges
from methods.ites.protocol import training_input


def test_processes_share_the_views_of_one_at_one_scale():
    poses = torch.randn(40, 17, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    sequences = (Sequence("A", "Walk", 0, 0, 40),)
    motion = PoseSet(poses[..., :0], H36M_17, sequences, sequence_index(sequences), torch.arange(40), poses)
    ranges = {f"camera_{name}": f"{low},{high}" for name, (low, high) in CameraRanges._field_defaults.items()}
    args, index = SimpleNamespace(cameras="virtual", vary_bones=0.1, **ranges), torch.arange(40).flip(0)

    def see(rank: int = 0, world_size: int = 1) -> torch.Tensor:
        run = Run(torch.device("cpu"), torch.Generator().manual_seed(0), rank=rank, world_size=world_size)
        return training_input(args, motion, run)(index)

    whole = see()
    assert torch.equal(whole[:, 0], torch.zeros(40, 2)) and abs(whole[:, 10].norm(dim=1).mean() - 0.2) < 0.05
    for rank in range(2):
        assert torch.equal(see(rank, 2), whole[rank::2])
