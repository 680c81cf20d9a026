"""Work shared between cores."""

import threading

import pytest
import torch

from common.threads import in_threads


@pytest.fixture(params=[1, 2])
def cores(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_in_order_each_from_one_thread_without_gradients(cores):
    weight = torch.ones(1, requires_grad=True)
    found = in_threads(lambda item: (item * weight, torch.get_num_threads(), threading.current_thread()), range(20))
    assert [value.item() for value, _, _ in found] == list(range(20))
    assert not any(value.requires_grad for value, _, _ in found) and {count for _, count, _ in found} == {1}
    assert (threading.main_thread() in {thread for _, _, thread in found}) == (cores == 1)
    assert torch.get_num_threads() == cores and in_threads(len, []) == []


def test_an_error_reaches_the_caller_and_the_threads_are_put_back(cores):
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda item: 1 // item, [1, 0, 1])
    assert torch.get_num_threads() == cores
