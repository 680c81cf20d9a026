"""TensorBoard's tags are those of the published PoseAug."""

from methods.poseaug import tags

AUGMENTOR = """
train_G_iter/gen_loss train_G_iter_diff_loss/loss_diff_angle train_G_iter_diff_loss/loss_diff_blr
train_G_iter_posenet_feedback/ba_hard_mean train_G_iter_posenet_feedback/ba_hard_std
train_G_iter_posenet_feedback/ba_hard_sample train_G_iter_posenet_feedback/ba_hard_mean_loss
train_G_iter_posenet_feedback/ba_hard_std_loss train_G_iter_posenet_feedback/rt_hard_mean
train_G_iter_posenet_feedback/rt_hard_std train_G_iter_posenet_feedback/rt_hard_sample
train_G_iter_posenet_feedback/rt_hard_mean_loss train_G_iter_posenet_feedback/rt_hard_std_loss
train_G_iter_PoseAug/g3d_real_acc train_G_iter_PoseAug/g3d_fake_acc train_G_iter_PoseAug/g3d_adv_loss
train_G_iter_PoseAug/g2d_real_acc train_G_iter_PoseAug/g2d_fake_acc train_G_iter_PoseAug/g2d_adv_loss
train_G_iter_posenet_feedback/1) pos_pair_loss_origin
train_G_iter_posenet_feedback/2) pos_pair_loss_ba
train_G_iter_posenet_feedback/3) pos_pair_loss_rt
train_G_iter_diff_log/angle_change train_G_iter_diff_log/log_angle_diff train_G_iter_diff_log/log_diff_blr
"""


def test_terms_of_training():
    found = list(tags.AUGMENTOR.values())
    assert " ".join(found[:-15]) == " ".join(AUGMENTOR.split())
    assert found[-15:] == [f"train_G_iter_diff_log/log_angle@bone_{bone:02d}" for bone in range(15)]
    assert list(tags.DISCRIMINATORS.values()) == [
        f"train_G_iter_PoseAug/{name}"
        for name in ("d3d_real_acc", "d3d_fake_acc", "d3d_dis_loss", "d2d_real_acc", "d2d_fake_acc", "d2d_dis_loss")
    ]


def test_evaluations():
    row = {"error_h36m_p1": 1.0, "error_3dhp_p2": 2.0}
    assert tags.evaluation(row, "_fake") == {
        "posenet_H36M_test/p1score_fake": 1.0, "posenet_mpi3d_loader_flip/p2score_fake": 2.0
    }  # fmt: skip
