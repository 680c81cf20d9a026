"""The options of following one person through a video, see `common.video.follow`."""

from common.run.options import number
from common.video.follow import MAX_GAP

FOLLOWING = (
    ("--person", number(int, 1), 1, "whom to follow; 1: the largest"),
    ("--max-gap", number(int, 0), MAX_GAP,
     "longest gap of a joint that is filled in from other frames; longer ones from its neighbours in the body",
     "FRAMES"),
    ("--smooth", number(float, 0), 0.0, "sigma of a mean over time; 0: none", "FRAMES"),
)  # fmt: skip
