"""Train a lifter together with a network that makes its training poses harder: PoseAug (CVPR 2021).

    python run_poseaug.py --note poseaug --posenet_name 'videopose' --lr_p 1e-4 --checkpoint ./checkpoint/poseaug --keypoints gt
    python run_poseaug.py --note poseaug --dataset synthetic --posenet_name mlp --stages 2 --pretrain FILE     needs no other files
    python run_poseaug.py --note poseaug --posenet_name mlp --stages 2 --resume FOLDER      goes on exactly where a run stopped

Starts from the baseline that run_baseline.py trained (--pretrain). Each epoch: swap bone lengths; train the augmentor
against two discriminators, with the lifter's feedback; train the lifter on the augmented poses, then on the real ones.
Writes ckpt_best_h36m_p1.pth.tar, ckpt_best_dhp_p1.pth.tar (the lifter), last.pth.tar (everything, for --resume),
log.txt, config.yaml, metrics.csv, TensorBoard events and pictures into CHECKPOINT/LIFTER/KEYPOINTS/TIME_NOTE.
"""  # noqa: E501

import time

import torch
from torch.nn import functional as F

import models
from common.bones import length_templates
from common.camera import project
from common.run.log import RunLog
from common.run.losses import LossBuffer
from common.run.run import start
from common.run.script import resume_command, run_script
from methods.poseaug import evaluation, options, run_folder
from methods.poseaug.augmented_data import AugmentedData
from methods.poseaug.collapse import enough_in_view, warn_of_collapse
from methods.poseaug.pictures import save_stages
from models.poseaug.augment_step import AUGMENTOR_TERMS, DISCRIMINATOR_TERMS, augment
from models.poseaug.augmentor import Augmentor, draw_noise
from models.poseaug.discriminators import Discriminator2D, Discriminator3D
from models.poseaug.losses import (
    accuracy,
    decay_factor,
    diff_loss,
    discriminator_loss,
    feedback_loss,
    hard_ratio,
    in_view,
)
from models.poseaug.replay_pool import ReplayPool

COLUMNS = ("epoch", "lr", "error_h36m_p1", "error_h36m_p2", "error_3dhp_p1", "error_3dhp_p2")


def main() -> None:
    parser = options.poseaug_parser(__doc__)
    args = parser.parse_args()
    options.check_poseaug(parser, args)
    run = start(args)
    train = evaluation.load_split(args, args.subjects_train, run.device)
    test = evaluation.load_split(args, args.subjects_test, run.device)
    cross = evaluation.load_cross_data(args, run.device)
    count = len(train.poses)
    steps = run.steps(count, args.batch_size)
    folder = run_folder.run_folder(args, run_folder.time_of_day(iso=True))
    run.settle_resume(args, folder / "last.pth.tar")

    lifter = models.create(args.posenet_name, **options.lifter_sizes(args))
    pretrained = None if args.resume else run_folder.find_pretrained(args)
    if pretrained:
        run_folder.load_lifter(lifter, pretrained, torch.device("cpu"))
        args.pretrain = str(pretrained)  # config.yaml says which
    networks = {
        "lifter": lifter, "augmentor": Augmentor(tanh_limit=args.blr_tanhlimit), "disc_3d": Discriminator3D(),
        "disc_2d": Discriminator2D(),
    }  # fmt: skip
    networks = {name: run.prepare(network).train() for name, network in networks.items()}
    lifter, augmentor, disc_3d, disc_2d = networks.values()
    rates = {"lifter": args.lr_p, "augmentor": args.lr_g, "disc_3d": args.lr_d, "disc_2d": args.lr_d}
    adam = {name: torch.optim.Adam(networks[name].parameters(), rates[name], fused=True) for name in networks}
    pool_3d, pool_2d = ReplayPool((16, 3), device=run.device), ReplayPool((16, 2), device=run.device)
    parts = {"model_pos": lifter, "augmentor": augmentor, "disc_3d": disc_3d, "disc_2d": disc_2d, "pool_3d": pool_3d}
    parts |= {"pool_2d": pool_2d} | {f"adam_{name}": optimizer for name, optimizer in adam.items()}
    data = AugmentedData(train, length_templates(args.bone_lengths), run, args.batch_size)
    ratios = torch.zeros(2, device=run.device)  # of this epoch: how much harder BA's and RT's poses should be
    feedback_of_ba = (ratios[0], args.hardratio_std_ba, args.gloss_factorfeedback_ba, args.gloss_factordiv_ba)
    feedback_of_rt = (ratios[1], args.hardratio_std_rt, args.gloss_factorfeedback_rt, args.gloss_factordiv_rt)
    shown_2d, shown_3d = train.inputs[:4].clone(), train.poses[:4].clone()  # one pose, for a picture

    saved = run_folder.resume(args, run, parts) if args.resume else {"epoch": 0, "row": None, "best": {}}
    finished, row, best = saved["epoch"], saved["row"], saved["best"]
    folder = run_folder.claim(folder, args, run)
    log = RunLog(folder, args, resume=bool(args.resume))
    text = run_folder.TextLog(folder / "log.txt", args, COLUMNS, finished, run.is_main)

    def clip_and_step(name: str) -> None:
        run.reduce_gradients(networks[name])
        if args.max_norm:
            torch.nn.utils.clip_grad_norm_(networks[name].parameters(), 1.0)
        adam[name].step()

    def augmentor_step(index: torch.Tensor) -> torch.Tensor:
        """One step of the augmentor on the poses `index` (B, 2): which to augment, the place for the result."""
        noise = tuple(run.shard(part) for part in draw_noise(len(index), run.generator, run.device))
        mine, place = run.shard(index).unbind(1)
        camera, keypoints, poses = data.camera(mine), data.source_2d[mine], data.source_3d[mine]
        with run.autocast():
            terms = augment(augmentor, lifter, disc_3d, disc_2d, keypoints, poses, camera, noise)
        made, errors = terms.made, terms.errors
        angle, length = diff_loss(made.ba_diff, made.blr, args.ba_range_m, args.ba_range_w, args.blr_limit)
        loss = args.gloss_factord2d * terms.adversarial_2d + args.gloss_factord3d * terms.adversarial_3d
        loss = loss + args.gloss_factordiff * (angle + args.gloss_factorblr * length)
        ba = feedback_loss(errors.ba, errors.original, *feedback_of_ba)
        rt = feedback_loss(errors.rt, errors.original, *feedback_of_rt)
        if warmed_up:
            loss = loss + ba.loss + rt.loss
        adam["augmentor"].zero_grad()
        (loss * run.weight(mine, index)).backward()
        clip_and_step("augmentor")
        with torch.no_grad():
            data.store(place, terms.keypoints_rt, made.pose_rt, in_view(terms.keypoints_rt))
            run.gather(terms.keypoints_rt, data.fake_2d[: len(index)])
            run.gather(made.pose_ba, data.fake_3d[: len(index)])
            shown_3d.copy_(torch.stack((poses[0], made.pose_ba[0], made.pose_bl[0], made.pose_rt[0])))
            shown_2d.copy_(project(shown_3d, camera[:1].unsqueeze(1)))
            return torch.cat((torch.stack((loss, angle, length, *ba[1:], *rt[1:])), terms.logged))

    def discriminator_step(index: torch.Tensor) -> torch.Tensor:
        """One step of both discriminators; index (B, 2): poses, and other poses' 2D, that are taken for real."""
        logged = []
        for name, pool, rows, real, fake in (
            ("disc_3d", pool_3d, index[:, 0], data.source_3d, data.fake_3d),
            ("disc_2d", pool_2d, index[:, 1], data.source_2d, data.fake_2d),
        ):
            real, fake = real[run.shard(rows)], run.shard(pool(fake[: len(index)], run.generator))
            with run.autocast():
                real_scores, fake_scores = networks[name](torch.cat((real, fake))).split(len(real))
            loss = discriminator_loss(real_scores, fake_scores)
            adam[name].zero_grad()
            (loss * run.weight(real, index)).backward()
            clip_and_step(name)
            logged += [accuracy(real_scores, 1.0), accuracy(fake_scores, 0.0), loss.detach()]
        return torch.stack(logged)

    def lifter_step(index: torch.Tensor) -> torch.Tensor:
        """One step of the lifter on the rows `index` of the pairs."""
        mine = run.shard(index)
        with run.autocast():
            pose = lifter(data.keypoints[mine])
        loss = F.mse_loss(pose.float(), data.poses[mine])
        adam["lifter"].zero_grad()
        (loss * run.weight(mine, index)).backward()
        clip_and_step("lifter")
        return loss.detach().view(1)

    augmentor_step = run.accelerate(augmentor_step, adam["augmentor"], key=lambda: (warmed_up,))
    discriminator_step = run.accelerate(discriminator_step, adam["disc_3d"], adam["disc_2d"])
    lifter_step = run.accelerate(lifter_step, adam["lifter"])

    def train_augmentor() -> dict[str, float]:
        """One pass: the augmentor in every step, the discriminators in every --df-th."""
        for network in (lifter, disc_3d, disc_2d):
            network.requires_grad_(False)
        places = data.real_rows()
        others = [run.order(count, epoch, name).to(run.device) for name in ("real 3D", "real 2D")]
        losses = LossBuffer(AUGMENTOR_TERMS, run, log, epoch - 1, steps)
        scores = LossBuffer(DISCRIMINATOR_TERMS, run, log, epoch - 1, steps)
        batches, done = run.batches(count, args.batch_size, epoch, purpose="augmentor"), 0
        for i, index in run.progress(batches, steps, f"epoch {epoch}, augmentor"):
            here = slice(done, done := done + len(index))
            losses.record(i, augmentor_step(torch.stack((index, places[here]), 1)), len(index))
            iteration = (epoch - 1) * steps + i
            if iteration % args.df == 0:
                disc_3d.requires_grad_(True), disc_2d.requires_grad_(True)
                scores.record(i, discriminator_step(torch.stack([order[here] for order in others], 1)), len(index))
                disc_3d.requires_grad_(False), disc_2d.requires_grad_(False)
            if args.viz_every and iteration % args.viz_every == 0 and run.is_main:
                save_stages(folder / "poseaug_viz" / f"epoch_{epoch:04d}_iter_{i:04d}.png", shown_2d, shown_3d)
            stop_if_asked()
        lifter.requires_grad_(True)
        log.scalars((epoch - 1) * steps, {"train_G_iter/lr_now": adam["augmentor"].param_groups[0]["lr"]})
        return losses.means() | scores.means()

    def train_lifter(name: str, rows: torch.Tensor) -> float:
        """One pass over the rows of the pairs."""
        losses = LossBuffer((f"train_P_iter/{name}",), run, log, epoch - 1, steps)
        batches = run.batches(len(rows), args.batch_size, epoch, purpose=name)
        for i, index in run.progress(batches, run.steps(len(rows), args.batch_size), f"epoch {epoch}, {name} poses"):
            losses.record(i, lifter_step(rows[index]), len(index))
            stop_if_asked()
        return losses.means()[f"train_P_iter/{name}"]

    def stop_if_asked() -> None:
        if run.stop_requested:
            run.leave(f"stopped in epoch {epoch}; go on from what was saved last: {resume_command(folder)}")

    def save_best() -> None:
        """The lifter under its published names, where it is better than in any epoch before."""
        for name, file in (("error_3dhp_p1", "ckpt_best_dhp_p1"), ("error_h36m_p1", "ckpt_best_h36m_p1")):
            if name in row and row[name] < best.get(name, float("inf")):
                best[name] = row[name]
                run.save(folder / f"{file}.pth.tar", {"epoch": epoch, "model_pos": lifter.state_dict()})

    def save_all() -> None:
        state = run_folder.training_state(args, run, parts, epoch=epoch, row=row, best=best)
        run.save(folder / "last.pth.tar", state)

    def score(tag: str) -> dict[str, float]:
        values = evaluation.evaluate_all(lifter, test, cross, run, args.flip_test)
        log.scalars(epoch * steps, evaluation.published_tags(values, tag))
        return values

    if run.is_main:
        origin = f"{args.posenet_name} starts from {pretrained or args.resume or 'nothing'}"
        print(f"train {train.summary()}; 2D input {args.keypoints}; {origin}; device {run.device}", flush=True)
    epoch = finished
    if row is None:
        row = score("_real")
        log.scalars(0, evaluation.published_tags(row, "_fake"))  # the same lifter still
        save_best()
        log.epoch(0, row)
        save_all()
        if run.is_main:
            print(f"[0] {evaluation.row_text(row, test, cross)}", flush=True)
    for epoch in range(finished + 1, args.epochs + 1):
        began = time.perf_counter()
        for name, optimizer in adam.items():
            optimizer.param_groups[0]["lr"] = rates[name] * decay_factor(epoch - 1, args.epochs, args.decay_epoch)
        warmed_up = epoch > args.warmup
        ba_ratio = hard_ratio(epoch, args.epochs, args.hardratio_ba_s, args.hardratio_ba)
        ratios.copy_(torch.tensor((ba_ratio, hard_ratio(epoch, args.epochs, args.hardratio_rt_s, args.hardratio_rt))))
        data.swap_bone_lengths(epoch)
        means = train_augmentor()
        losses = {"gen_loss": means["train_G_iter/gen_loss"]}
        trained = time.perf_counter() - began
        if warmed_up:
            made = data.made_rows()
            losses["in_view"] = len(made) / count
            if enough_in_view(epoch, len(made), run):
                losses["loss_made"] = train_lifter("made", made)
            trained = time.perf_counter() - began
            score("_fake")
            scored = time.perf_counter()
            losses["loss_real"] = train_lifter("real", data.real_rows())
            trained += time.perf_counter() - scored
            row = score("_real")
            save_best()
        if epoch > 1:  # a fresh augmentor starts far out
            warn_of_collapse(epoch, means, args)
        if run.is_main:
            scores = evaluation.row_text(row, test, cross) + " (warm-up: the start's)" * (not warmed_up)
            print(evaluation.epoch_line(epoch, time.perf_counter() - began, trained, losses, scores), flush=True)
        next_lr = args.lr_p * decay_factor(epoch, args.epochs, args.decay_epoch)
        text.row(row | {"epoch": epoch, "lr": next_lr})
        log.epoch(epoch, row | losses | {"lr": next_lr}, step=epoch * steps)
        if epoch % args.snapshot == 0 or epoch == args.epochs:
            save_all()
    log.close()
    if run.is_main:
        log.plot(folder / "curves.png")
        print(evaluation.best_line(args, best["error_h36m_p1"], test, cross))
        print(f"results in {folder}")


if __name__ == "__main__":
    run_script(main)
