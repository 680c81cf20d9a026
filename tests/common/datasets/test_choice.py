"""common.datasets.choice: the published choice of actions and of frames."""

import hashlib

import pytest

from common.datasets.choice import deterministic_random, frame_window, select_actions
from common.errors import InputError


def test_selecting_actions():
    there = ["Walking", "Walking 1", "WalkDog", "WalkTogether 1", "Photo 1", "Sitting", "SittingDown 1"]
    expected = {
        "*": set(there),
        "Walking": {"Walking", "Walking 1"},
        "walking 1": {"Walking 1"},
        "Walk": {"Walking", "Walking 1", "WalkDog", "WalkTogether 1"},
        "WalkingDog": {"WalkDog"},
        "Taking Photo, Sitting": {"Photo 1", "Sitting", "SittingDown 1"},
        "SittingDown,Walking 1": {"SittingDown 1", "Walking 1"},
    }
    for wanted, found in expected.items():
        assert select_actions(there, wanted) == found
    assert select_actions(there, ["SittingD", "Photo"]) == {"SittingDown 1", "Photo 1"}
    with pytest.raises(InputError, match="unknown action 'Jumping'; there are: Walking, WalkDog, WalkTogether, Photo"):
        select_actions(there, "Walking,Jumping")


def test_selecting_exact_actions():
    """PoseAug's filter: the whole name, without the number of the take."""
    there = ["Walking", "Walking 1", "WalkDog", "WalkTogether 1", "Photo 1", "Sitting", "Sitting 2", "SittingDown 1"]
    expected = {
        "*": set(there),
        "Sitting": {"Sitting", "Sitting 2"},
        "sitting 2": {"Sitting 2"},
        "SittingDown": {"SittingDown 1"},
        "Walking,TakingPhoto": {"Walking", "Walking 1", "Photo 1"},
    }
    for wanted, found in expected.items():
        assert select_actions(there, wanted, exact=True) == found
    for wanted in ("Walk", "Sitting 1", "SittingD"):
        with pytest.raises(
            InputError, match=f"unknown action '{wanted}'; there are: Walking, WalkDog, WalkTogether, Ph"
        ):
            select_actions(there, f"Sitting,{wanted}", exact=True)


def test_deterministic_random():
    assert [deterministic_random(0, 1000, text) for text in ("1383", "2356", "abc")] == [
        int(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") / (2**32 - 1) * 1000)
        for text in ("1383", "2356", "abc")
    ]
    draws = {deterministic_random(3, 7, str(i)) for i in range(200)}
    assert draws == {3, 4, 5, 6}


def test_frame_windows():
    for length in (0, 1, 7, 50, 1383):
        for downsample in (1, 2, 5):
            assert list(frame_window(length, 1, downsample)) == list(range(length))[::downsample]
            for subset in (0.01, 0.3, 0.99):
                window = frame_window(length, subset, downsample)
                assert len(window) == round(length // downsample * subset)
                assert not window or (0 <= window[0] and window[-1] < length)
    for arguments in ((0.0, 1), (1.5, 1), (float("nan"), 1), (1.0, 0)):
        with pytest.raises(InputError, match="--subset|--downsample"):
            frame_window(10, *arguments)


# ------------------------------------------------------------------------------------------------------------ bad input
