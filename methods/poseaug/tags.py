"""TensorBoard's tags of PoseAug, as published, by our names of the terms."""

from collections.abc import Mapping

# Of a step of the augmentor: its loss, the range losses, the feedback of BA and RT, and `augment`'s terms.
AUGMENTOR = {
    "loss": "train_G_iter/gen_loss",
    "angle": "train_G_iter_diff_loss/loss_diff_angle",
    "length": "train_G_iter_diff_loss/loss_diff_blr",
    **{
        f"{part}_{name}": f"train_G_iter_posenet_feedback/{part}_hard_{name}"
        for part in ("ba", "rt")
        for name in ("mean", "std", "sample", "mean_loss", "std_loss")
    },
    "real_acc_3d": "train_G_iter_PoseAug/g3d_real_acc",
    "fake_acc_3d": "train_G_iter_PoseAug/g3d_fake_acc",
    "adversarial_3d": "train_G_iter_PoseAug/g3d_adv_loss",
    "real_acc_2d": "train_G_iter_PoseAug/g2d_real_acc",
    "fake_acc_2d": "train_G_iter_PoseAug/g2d_fake_acc",
    "adversarial_2d": "train_G_iter_PoseAug/g2d_adv_loss",
    "error_original": "train_G_iter_posenet_feedback/1) pos_pair_loss_origin",
    "error_ba": "train_G_iter_posenet_feedback/2) pos_pair_loss_ba",
    "error_rt": "train_G_iter_posenet_feedback/3) pos_pair_loss_rt",
    "angle_change": "train_G_iter_diff_log/angle_change",
    "turn": "train_G_iter_diff_log/log_angle_diff",
    "length_change": "train_G_iter_diff_log/log_diff_blr",
    **{f"turn_{bone:02d}": f"train_G_iter_diff_log/log_angle@bone_{bone:02d}" for bone in range(15)},
}
DISCRIMINATORS = {  # of a step of theirs
    f"{d}_{name}": f"train_G_iter_PoseAug/{d}_{name}"
    for d in ("d3d", "d2d")
    for name in ("real_acc", "fake_acc", "dis_loss")
}


def evaluation(row: Mapping[str, float], tag: str) -> dict[str, float]:
    """An evaluation by its tags; tag: `_fake` after training on augmented poses, `_real` after the real ones."""
    sets = {"error_h36m": "posenet_H36M_test", "error_3dhp": "posenet_mpi3d_loader_flip"}
    return {f"{sets.get(n[:-3], f'posenet_{n[:-3]}_flip')}/{n[-2:]}score{tag}": value for n, value in row.items()}
