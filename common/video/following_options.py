"""The options of following one person through a video, see `common.video.follow`."""

from typing import Any

from common.run.options import number
from common.video.follow import MAX_GAP


def add_following_options(group: Any) -> None:
    """Add `--person`, `--max-gap` and `--smooth` to a parser or a group of it."""
    group.add_argument("--person", type=number(int, 1), default=1, help="whom to follow; 1: the largest")
    group.add_argument(
        "--max-gap", type=number(int, 0), default=MAX_GAP, metavar="FRAMES",
        help="longest gap of a joint that is filled in from other frames; longer ones from its neighbours in the body",
    )  # fmt: skip
    group.add_argument(
        "--smooth", type=number(float, 0), default=0.0, metavar="FRAMES", help="sigma of a mean over time; 0: none"
    )
