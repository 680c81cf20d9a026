"""Small networks for tests of scripts: as published but for their width, which no option of these scripts names.

What such a test looks at (files, rows, one process or two, before and after a resume) is no other in a network of a
hundredth of the weights; most of its time went into computing, and saving, the rest. The published widths are held by
tests/models/ and by the checkpoints of others that tests read.
"""

from functools import partial

WIDTHS = {
    "mlp": {"width": 64}, "videopose": {"channels": 64}, "encoder_decoder": {"pose_width": 64},
    **dict.fromkeys(("gan_lifter", "gan_discriminator", "kudo_generator", "kudo_discriminator"), {"width": 64}),
}  # fmt: skip
VARIABLE = "SMALL_NETWORKS"  # in the environment: processes that tests start make theirs small, too


def make_small(put=setattr) -> None:
    """From here on in this process; `put`: as `monkeypatch.setattr`, if it is to end."""
    import models
    from models import resnet
    from models.hourglass import pose_resnet

    small = {name: partial(models.REGISTRY[name], **width) for name, width in WIDTHS.items()}
    put(models, "REGISTRY", models.REGISTRY | small)
    put(resnet, "PLANES", tuple(planes // 4 for planes in resnet.PLANES))
    put(pose_resnet, "CHANNELS", pose_resnet.CHANNELS // 4)
