"""The cores of a CPU, and work on tensors shared between them."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item, Result = TypeVar("Item"), TypeVar("Result")


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """[function(item) for item in items] without gradients, one item per core at a time, each in one thread of torch's.

    For items of many short steps: torch would share every one of the steps between the cores instead, and on a busy
    machine spends most of its time waiting for the slower half.
    """

    def work(item: Item) -> Result:
        with torch.no_grad():  # a new thread starts with gradients on
            return function(item)

    threads, items = torch.get_num_threads(), list(items)
    if threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(threads)  # each thread has its own count, but threads yet to come take the latest
