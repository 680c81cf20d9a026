"""The replay pool against the rule written out pose by pose; capacity, halves, resuming."""

import pytest
import torch

from common.errors import InputError
from models.poseaug.replay_pool import ReplayPool


class OneByOne:
    """The rule, one pose after the other, with the same draws."""

    def __init__(self, capacity: int):
        self.capacity, self.stored = capacity, []

    def exchange(self, poses, swap, places):
        returned = []
        for pose, change, place in zip(poses, swap.tolist(), places.tolist(), strict=True):
            if len(self.stored) < self.capacity:
                self.stored.append(pose)
                returned.append(pose)
            elif change:
                returned.append(self.stored[place])
                self.stored[place] = pose
            else:
                returned.append(pose)
        return torch.stack(returned)


def numbered(first: int, count: int) -> torch.Tensor:
    """Poses (count, 2, 3) that can be told apart."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None, None].repeat(1, 2, 3)


@pytest.mark.parametrize("capacity", [1, 5, 16, 100])
@pytest.mark.parametrize("size", [1, 4, 7, 32])
def test_same_as_one_by_one(capacity, size):
    """With a batch beyond the capacity, places met many times, and a pool that fills up within a batch."""
    generator = torch.Generator().manual_seed(capacity * 100 + size)
    pool, rule = ReplayPool((2, 3), capacity), OneByOne(capacity)
    for step in range(12):
        poses = numbered(step * size, size)
        swap = torch.rand(size, generator=generator) > 0.5
        places = torch.randint(capacity, (size,), generator=generator)
        assert torch.equal(pool.exchange(poses, swap, places), rule.exchange(poses, swap, places))
        assert pool.count == len(rule.stored)
        assert torch.equal(pool.state_dict()["poses"][: len(rule.stored)], torch.stack(rule.stored))


def test_all_in_one_place():
    """Each gets the one before it, and the last stays."""
    pool = ReplayPool((2, 3), 1)
    pool(numbered(0, 1))
    found = pool.exchange(numbered(1, 5), torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.long))
    assert torch.equal(found, numbered(0, 5))
    assert torch.equal(pool.state_dict()["poses"], numbered(5, 1))


def test_until_full_poses_pass_and_are_stored():
    pool = ReplayPool((2, 3), 8)
    assert torch.equal(pool(numbered(0, 5)), numbered(0, 5))
    assert pool.count == 5
    assert torch.equal(pool(numbered(5, 3)), numbered(5, 3))
    assert torch.equal(pool.state_dict()["poses"], numbered(0, 8))


def test_then_half_are_exchanged_and_none_is_lost():
    pool, generator = ReplayPool((2, 3), 64), torch.Generator().manual_seed(0)
    pool(numbered(0, 64), generator)
    old, seen = 0, []
    for step in range(1, 41):
        poses = numbered(step * 64, 64)
        found = pool(poses, generator)
        old += int((found != poses).all(dim=(1, 2)).sum())
        seen += found[:, 0, 0].tolist()
    assert 0.47 < old / (40 * 64) < 0.53
    assert pool.count == 64
    # every new pose has been returned or is stored, none twice; the first 64 were returned before
    stored = pool.state_dict()["poses"][:, 0, 0].tolist()
    new = [value for value in seen + stored if value >= 64]
    assert len(new) == len(set(new)) == 40 * 64


def test_returned_poses_are_detached_copies():
    pool = ReplayPool((2, 3), 4)
    poses = numbered(0, 4).requires_grad_()
    found = pool(poses)
    assert not found.requires_grad
    found.zero_()
    assert torch.equal(pool.state_dict()["poses"], numbered(0, 4))


def test_the_generator_decides():
    outputs = []
    for _ in range(2):
        pool, generator = ReplayPool((2, 3), 4), torch.Generator().manual_seed(3)
        torch.rand(5)  # other draws do not matter
        outputs.append(torch.stack([pool(numbered(6 * step, 6), generator) for step in range(5)]))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("before", [1, 5])
def test_resuming_goes_on_exactly(before):
    """From a pool that is filling, and from a full one."""
    pool, generator = ReplayPool((2, 3), 8), torch.Generator().manual_seed(0)
    for step in range(before):
        pool(numbered(4 * step, 4), generator)
    state, draws = pool.state_dict(), generator.get_state()
    expected = [pool(numbered(100 + 4 * step, 4), generator) for step in range(4)]
    again, same_draws = ReplayPool((2, 3), 8), torch.Generator()
    again.load_state_dict(state)
    same_draws.set_state(draws)
    found = [again(numbered(100 + 4 * step, 4), same_draws) for step in range(4)]
    assert torch.equal(torch.stack(found), torch.stack(expected))
    assert torch.equal(again.state_dict()["poses"], pool.state_dict()["poses"])
    assert again.count == pool.count


def test_the_state_is_a_copy_and_loading_is_in_place():
    pool = ReplayPool((2, 3), 4)
    state, address = pool.state_dict(), pool.rows.data_ptr()
    pool(numbered(1, 4))
    assert state["count"] == 0 and not state["poses"].any()
    pool.load_state_dict(state)
    assert pool.count == 0 and pool.rows.data_ptr() == address


def test_wrong_sizes_are_refused():
    with pytest.raises(InputError, match="replay pool"):
        ReplayPool((16, 3), 4)(torch.zeros(2, 16, 2))
    with pytest.raises(InputError, match=r"\(8, 2, 3\).*\(4, 2, 3\)"):
        ReplayPool((2, 3), 4).load_state_dict(ReplayPool((2, 3), 8).state_dict())
    with pytest.raises(InputError, match="at least one"):
        ReplayPool((2, 3), 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_filling_and_exchanging_in_one_cuda_graph():
    pool, rule = ReplayPool((2, 3), 10, device="cuda"), OneByOne(10)
    poses, swap = torch.zeros(4, 2, 3, device="cuda"), torch.zeros(4, dtype=torch.bool, device="cuda")
    places = torch.zeros(4, dtype=torch.long, device="cuda")
    empty = pool.state_dict()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        pool.exchange(poses, swap, places)
    torch.cuda.current_stream().wait_stream(stream)
    pool.load_state_dict(empty)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = pool.exchange(poses, swap, places)
    for step in range(8):
        poses.copy_(numbered(4 * step, 4))
        swap.copy_(torch.rand(4) > 0.5)
        places.copy_(torch.randint(10, (4,)))
        graph.replay()
        assert torch.equal(found.cpu(), rule.exchange(numbered(4 * step, 4), swap.cpu(), places.cpu()))
