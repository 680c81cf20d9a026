"""The steps of the image methods: train_step.py hands on its options, and each benchmark prints shares of the peak."""

import subprocess
from types import SimpleNamespace

import pytest

from benchmarks import train_step

SMALL = {
    "hourglass": ("--arch", "msra_18", "--input", 64, "--side", 80, "--no-baseline"),
    "encoder_decoder": (
        "--input_dimension", 32, "--encoder_type", "unet", "--feature_scale", 16, "--latent_fg", 8, "--latent_3d", 30,
    ),
}  # fmt: skip


def test_options_are_handed_on(monkeypatch, script):
    """As train_step.py calls them, and with the answer of a benchmark that fails."""
    calls, real = [], subprocess.run

    def run(words, **more):
        if more:  # not ours
            return real(words, **more)
        calls.append(list(map(str, words)))
        return SimpleNamespace(returncode=len(calls) - 1)

    monkeypatch.setattr(subprocess, "run", run)
    words = ("--methods", "hourglass", "encoder_decoder", "--batch-size", 4, "--rounds", 3, "--amp", "--device", "cpu")
    done = script("benchmarks/train_step.py", *words)
    assert [call[1].rsplit("/", 1)[1] for call in calls] == ["hourglass_step.py", "encoder_decoder_step.py"]
    for call in calls:
        assert call[2:] == ["--rounds", "3", "--steps", "1", "--device", "cpu", "--threads", "0", "--batch_size", "4",
                            "--amp"]  # fmt: skip
    assert done.status == 2 and "encoder_decoder_step.py ended with status 1" in done.err


@pytest.mark.parametrize("name", train_step.OF_IMAGES)
def test_a_small_step_is_measured(script, name):
    options = ("--rounds", 1, "--steps", 1, "--device", "cpu", "--threads", 1, "--batch_size", 4)
    done = script(f"benchmarks/{name}_step.py", *options, *SMALL[name])
    assert done.status == 0, done.err
    assert "% of the peak" in done.out and "batch 4" in done.out
