"""Warnings of a collapse of PoseAug's augmentor or its discriminators, with what to try."""

import logging
from collections.abc import Mapping
from typing import Any

from common.run.run import Run

log = logging.getLogger(__name__)

PINNED = 0.99  # an accuracy, as mean of a whole epoch, from which on it counts as pinned


def warn_of_collapse(epoch: int, means: Mapping[str, float], args: Any) -> None:
    """Say what went wrong in an epoch of the augmentor, from the means of its logged terms, and what to try."""
    for warning in collapse_warnings(means, args):
        log.warning("epoch %d: %s", epoch, warning)


def enough_in_view(epoch: int, count: int, run: Run) -> bool:
    """Whether an epoch's augmented poses in view, `count`, can be trained on; if not, say what to try."""
    enough = count >= 2 * run.world_size
    if not enough:
        log.warning(
            "epoch %d: %d augmented poses are in view, too few to train on: the lifter sees the real ones alone; try a "
            "longer --warmup, a lower --lr_g, a larger --gloss_factord2d",
            epoch,
            count,
        )
    return enough


def collapse_warnings(means: Mapping[str, float], args: Any) -> list[str]:
    """The lines of `warn_of_collapse`: a discriminator or the bone angles pinned for a whole epoch."""
    warnings = []
    for d, text in (("d3d", "3D"), ("d2d", "2D")):
        names = [f"train_G_iter_PoseAug/{d}_{kind}_acc" for kind in ("real", "fake")]
        if names[0] not in means:  # fewer steps than --df: no step of the discriminators in this epoch
            continue
        real, fake = (means[name] for name in names)
        if min(real, fake) > PINNED:
            warnings.append(f"the {text} discriminator tells every pose: the augmentor learns nothing from it; try a "
                            f"lower --lr_d, a larger --df, a larger --gloss_factor{d}")  # fmt: skip
        elif min(real, fake) < 1 - PINNED:
            warnings.append(f"the {text} discriminator tells nothing; try a higher --lr_d or --df 1")
    change, bound = means["train_G_iter_diff_log/angle_change"], args.ba_range_m + args.ba_range_w
    if change < (1 - PINNED) * args.ba_range_m:
        warnings.append(f"bone angles hardly change (1 - cos {change:.4f}); try a higher --lr_g, a larger "
                        "--gloss_factorfeedback_ba, a smaller --gloss_factord3d")  # fmt: skip
    elif change > bound:
        warnings.append(f"bone angles change as far as they may ({change:.2f} of {bound:.2f}); try a larger "
                        "--gloss_factordiff or --gloss_factord3d")  # fmt: skip
    return warnings
