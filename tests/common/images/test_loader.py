"""Batches of samples: the same with any number of workers and processes, and after a resume; the 3D share; errors."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.images.loader import (
    epoch_batches,
    epoch_rows,
    evaluation_loader,
    one_line_errors,
    to_device,
    training_loader,
)
from common.images.people import CropOptions, Crops
from common.run.run import Run
from tests.common.images.test_people import people, without_3d

OPTIONS = CropOptions(input_size=(32, 32), map_size=(8, 8))


def run(**changes) -> Run:
    return Run(torch.device("cpu"), torch.Generator(), seed=7, **changes)


def crops(count_3d: int = 9, count_2d: int = 6, train: bool = True) -> Crops:
    return Crops([people(count_3d), without_3d(people(count_2d))], OPTIONS, train=train, seed=7)


def epoch(workers: int, epoch: int, start: int = 0, **changes) -> list[dict]:
    loader = training_loader(crops(), run(**changes), batch_size=4, workers=workers)
    return [batch for _, batch in epoch_batches(loader, epoch, start)]


def assert_same(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_any_number_of_workers_gives_the_same_batches():
    alone = epoch(0, 2)
    assert [len(batch["image"]) for batch in alone] == [4, 4, 4]
    assert alone[0]["image"].dtype == torch.uint8 and alone[0]["image"].shape == (4, 32, 32, 3)
    assert_same(epoch(2, 2), alone)


def test_workers_that_live_on_hear_of_the_epoch_and_of_a_resume():
    loader = training_loader(crops(), run(), batch_size=4, workers=1)
    first, second = ([batch for _, batch in epoch_batches(loader, e)] for e in (0, 1))
    assert_same(second, epoch(0, 1))
    assert not torch.equal(first[0]["image"], second[0]["image"])
    numbered = list(epoch_batches(loader, 1, start=1))
    assert [i for i, _ in numbered] == [1, 2]
    assert_same([batch for _, batch in numbered], second[1:])


def test_processes_share_the_global_batch():
    whole, shares = epoch(0, 3), [epoch(0, 3, rank=rank, world_size=2) for rank in range(2)]
    for i, batch in enumerate(whole):
        for rank in range(2):
            assert torch.equal(batch["image"][rank::2], shares[rank][i]["image"])


def test_every_3d_person_comes_in_turn():
    mixed, seen = crops(), set()
    for e in range(12):
        rows = epoch_rows(mixed, 1.0, seed=0, epoch=e)
        assert len(rows) == 12 and set(range(9, 15)) <= set(rows.tolist())
        seen |= set(rows.tolist())
    assert seen == set(range(15))


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 6), (0.5, 9), (1.0, 12), (3.0, 15)])
def test_ratio_3d(ratio, expected):
    assert len(epoch_rows(crops(), ratio, seed=0, epoch=0)) == expected


def test_without_2d_people_all_3d_people_are_taken():
    assert len(epoch_rows(Crops([people(5)], OPTIONS, train=True), 0.0, seed=0, epoch=0)) == 5


def test_evaluation_takes_each_row_once():
    parts = []
    for rank in range(2):
        loader = evaluation_loader(crops(train=False), run(rank=rank, world_size=2), batch_size=3, workers=0)
        assert len(loader) == -(-(15 - rank) // 2 // 3) or len(loader) == 3
        parts += [to_device(batch, torch.device("cpu"))["index"] for batch in one_line_errors(loader)]
    assert torch.cat(parts).sort().values.tolist() == list(range(15))
    chosen = evaluation_loader(crops(train=False), run(), 4, workers=0, rows=np.array([3, 8]))
    assert next(iter(chosen))["index"].tolist() == [3, 8]


def refusal(bad: Crops, workers: int) -> str | None:
    """What an epoch is refused with. pytest.raises would hold on to the workers, whose end then takes seconds."""
    try:
        list(epoch_batches(training_loader(bad, run(), 4, workers=workers), 0))
    except InputError as error:
        return str(error)


def test_a_bad_image_is_one_line_from_a_worker_too(tmp_path):
    def fail(index: int):
        raise InputError(f"{tmp_path}/x.jpg is truncated")

    for workers in (0, 1):
        bad = Crops([replace(people(4), open_image=fail)], OPTIONS, train=True)
        assert refusal(bad, workers) == f"{tmp_path}/x.jpg is truncated"


def test_bad_options_are_refused():
    with pytest.raises(InputError, match="--ratio_3d is -1"):
        training_loader(crops(), run(), 4, ratio_3d=-1)
    with pytest.raises(InputError, match="--num_workers is -1"):
        training_loader(crops(), run(), 4, workers=-1)
    with pytest.raises(InputError, match="cannot resume at step 9"):
        next(epoch_batches(training_loader(crops(), run(), 4, workers=0), 0, start=9))


def test_workers_leave_signals_to_the_main_process():
    loader = training_loader(crops(), run(), batch_size=4, workers=1)
    batches = epoch_batches(loader, 0)
    next(batches)
    (worker,) = loader._iterator._workers
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, signum)
    next(batches)
    assert len([*epoch_batches(loader, 1)]) == 3 and worker.is_alive()
    del batches
    loader._iterator._shutdown_workers()
    assert not worker.is_alive()
