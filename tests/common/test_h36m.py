"""common.h36m: the names of actions."""

from common.h36m import action_label, canonical_action


def test_action_names():
    assert [canonical_action(a) for a in ("Photo", "TakingPhoto 1", "Taking Photo", "WalkingDog 1", "Walking 2")] == [
        "Photo", "Photo 1", "Photo", "WalkDog 1", "Walking 2",
    ]  # fmt: skip
    assert [action_label(a) for a in ("Taking Photo 1", "Walking", "Cmu01x01")] == ["Photo", "Walking", "Cmu01x01"]
