"""Options: tables, both spellings, YAML files, suggestions, one-line errors, options without effect."""

from pathlib import Path

import pytest
import yaml

from common.run.options import Parser, bool_string, number, write_config


def make_parser() -> Parser:
    parser = Parser("A script.")
    group = parser.add_argument_group("Data")
    group.add_argument("-k", "--keypoints", choices=["gt", "cpn"], default="gt", help="2D detector")
    group.add_argument("-str", "--subjects-train", default="S1,S5", help="subjects")
    group.add_argument("-ste", "--subjects-test", default="S9", help="subjects")
    group.add_argument("--teacher_checkpoint", default="checkpoint/teacher", help="teacher file")
    group.add_argument("-e", "--epochs", type=number(int, low=1), default=50, help="number of epochs")
    group.add_argument("-lr", "--learning-rate", type=float, default=0.001, help="learning rate")
    group.add_argument("-lrd", "--lr-decay", type=float, default=0.5)
    group.add_argument("--no-eval", action="store_true", help="do not evaluate")
    group.add_argument("--no_max", dest="max_norm", action="store_false", help="no maximum norm")
    group.add_argument("--s1only", type=bool_string, default=False, help="only S1")
    group.add_argument("--sizes", type=int, nargs="+", default=[1, 2], help="sizes")
    group.add_argument("--resume", default="", help="checkpoint, 100%% exact")
    parser.add_run_options()
    return parser


def parse(*words: str):
    return make_parser().parse_args(list(words))


def refused(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(*words)
    captured = capsys.readouterr()
    assert stop.value.code == 2 and captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def test_both_spellings_and_short_forms():
    assert parse("--subjects_train", "S7").subjects_train == "S7"
    assert parse("--subjects-train=S8").subjects_train == "S8"
    assert parse("--teacher-checkpoint", "x.bin").teacher_checkpoint == "x.bin"
    assert parse("--no_eval").no_eval and parse("--log-every", "3").log_every == 3
    args = parse("-k", "cpn", "-str", "S1", "-ste", "S11", "-e5", "-lr", "0.1", "-lrd", "0.2")
    assert (args.keypoints, args.subjects_train, args.subjects_test, args.epochs) == ("cpn", "S1", "S11", 5)
    assert (args.learning_rate, args.lr_decay) == (0.1, 0.2)


def test_defaults_of_the_run_options():
    args = parse()
    assert (args.device, args.seed, args.amp, args.compile, args.log_every) == ("auto", 0, False, False, 50)
    assert (args.threads, args.no_cuda_graphs, args.config) == (0, False, None)


def test_help_shows_each_default_and_one_spelling(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    for part in (
        "Data:",
        "Running:",
        "-str, --subjects-train",
        "(default: S1,S5)",
        "(default: 0.001)",
        "(default: off)",
        "lr decay (default: 0.5)",
        "checkpoint, 100% exact (default: none)",
        "--keypoints {gt,cpn}",
    ):
        assert part in text, part
    assert "--subjects_train" not in text and "--teacher-checkpoint" not in text


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--epocs", "3"], "unknown option --epocs: did you mean --epochs?"),
        (["--subject_train", "S1"], "did you mean --subjects-train?"),
        (["--subjects"], "unknown option --subjects"),  # no abbreviations
        (["-st", "S1"], "unknown option -st"),
        (["--qqqq"], "unknown option --qqqq (--help"),
        (["gt"], "unexpected argument 'gt'"),
        (["-k", "gtt"], "'cpn'"),
        (["-e", "0"], "expected a whole number of 1 or more, found '0'"),
        (["-e", "x"], "found 'x'"),
        (["--device", "gpu"], "'cpu', 'cuda', 'cuda:N'"),
        (["--s1only", "maybe"], "expected True or False"),
        (["--learning-rate"], "expected one argument"),
    ],
)
def test_refusals(capsys, words, expected):
    assert expected in refused(capsys, *words)


def write(folder, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_config_sets_options_and_the_command_line_wins(tmp_path):
    path = write(
        tmp_path,
        "keypoints: cpn\nlearning-rate: 1e-2\nsubjects_train: [S1, S7]\nno-eval: true\n"
        "no_max: true\ns1only: True\nsizes: [3]\nepochs: 7\nseed: 4\n",
    )
    args = parse("--config", path, "--epochs", "9")
    assert (args.keypoints, args.learning_rate, args.subjects_train, args.no_eval) == ("cpn", 0.01, "S1,S7", True)
    assert (args.max_norm, args.s1only, args.sizes, args.epochs, args.seed) == (False, True, [3], 9, 4)
    assert parse().epochs == 50  # and nothing sticks
    assert parse("--config", write(tmp_path, "")).epochs == 50


@pytest.mark.parametrize(
    "text, expected",
    [
        ("epoch: 3", "unknown option 'epoch': did you mean 'epochs'?"),
        ("epochs: 2.5", "epochs: expected a whole number of 1 or more, found '2.5'"),
        ("epochs: 0", "found '0'"),
        ("keypoints: gtt", "invalid choice: 'gtt' (choose from 'gt', 'cpn')"),
        ("keypoints: yes", "quotes"),
        ("no-eval: 1", "expected true or false"),
        ("learning_rate: fast", "invalid float value: 'fast'"),
        ("learning_rate: {a: 1}", "expected one value"),
        ("lr_decay: 1\nlr-decay: 2", "given twice"),
        ("config: other.yaml", "unknown option 'config'"),
        ("- a\n- b", "found a list"),
        ("epochs: [1", "malformed YAML"),
        ("epochs: !!python/object/apply:os.system ['true']", "malformed YAML"),
    ],
)
def test_config_refusals(tmp_path, capsys, text, expected):
    message = refused(capsys, "--config", write(tmp_path, text))
    assert expected in message and "recipe.yaml" in message


def test_config_unreadable(tmp_path, capsys):
    assert "No such file" in refused(capsys, "--config", str(tmp_path / "none.yaml"))
    assert "directory" in refused(capsys, "--config", str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refused(capsys, "--config", str(tmp_path / "binary"))


def test_written_config_gives_the_same_options(tmp_path):
    args = parse("-lr", "3e-5", "--no_max", "--no-eval", "-str", "S5", "--sizes", "4", "5")
    write_config(tmp_path / "config.yaml", args)
    again = parse("--config", str(tmp_path / "config.yaml"))
    again.config = None
    assert again == args
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["learning_rate"] == 3e-5


def test_a_misspelt_required_option_is_suggested(capsys):
    parser = Parser()
    parser.add_argument("--source", required=True, help="folder")
    with pytest.raises(SystemExit):
        parser.parse_args(["--sorce", "folder"])
    assert capsys.readouterr().err == "error: unknown option --sorce: did you mean --source?\n"


def test_required_option_may_come_from_yaml(tmp_path, capsys):
    def parser():
        parser = Parser()
        parser.add_argument("--evaluate", required=True, help="file")
        parser.add_run_options("--random_seed")
        return parser

    args = parser().parse_args(["--config", write(tmp_path, "evaluate: x.bin\nrandom_seed: 3")])
    assert (args.evaluate, args.seed) == ("x.bin", 3)
    with pytest.raises(SystemExit):
        parser().parse_args([])
    assert "--evaluate" in capsys.readouterr().err


# ---- tables

TABLE = (
    ("-e --epochs", number(int, 1), 50, "number of epochs"),
    ("--metric", ("mpjpe", "acc"), "acc", "what is best"),
    ("--no-eval", bool, False, "do not score"),
    ("--no_max", bool, True, "no maximum norm", None, {"dest": "max_norm"}),
    ("-c --checkpoint", Path, "here", "the run's folder", "DIR"),
    ("--teacher", Path, ..., "trained teacher", "FILE"),
)
TESTING = (("--evaluate", bool, False, "score"), ("--page", Path, None, "a page", "FILE"))


def table_parser() -> Parser:
    parser = Parser()
    parser.add_table("Training", TABLE[:3], TABLE[3:])
    parser.add_run_options(training=False, draws=False)
    parser.accept((("--workers", number(int, 0), 8, ""), ("--old", bool, False, ""), ("--must", str, ..., "")))
    parser.refuse("the test script does that", TESTING)
    return parser


def refusal(capsys, *words: str) -> str:
    with pytest.raises(SystemExit):
        table_parser().parse_args(["--teacher", "t", *words])
    return capsys.readouterr().err


def test_a_table(capsys):
    args = table_parser().parse_args(["--teacher", "t.bin"])
    assert (args.epochs, args.metric, args.no_eval, args.max_norm) == (50, "acc", False, True)
    assert (args.checkpoint, args.teacher) == (Path("here"), Path("t.bin"))
    args = table_parser().parse_args("-e 3 --metric mpjpe --no_eval --no-max -c there --teacher t".split())
    assert (args.epochs, args.metric, args.no_eval, args.max_norm) == (3, "mpjpe", True, False)
    assert args.checkpoint == Path("there")
    assert "'mpjpe', 'acc'" in refusal(capsys, "--metric", "x")
    with pytest.raises(SystemExit):
        table_parser().parse_args([])
    assert "--teacher" in capsys.readouterr().err


def test_options_without_effect_are_checked_and_forgotten(tmp_path, capsys):
    path = write(tmp_path, "workers: 2\nold: true\nmust: null\nlog_every: 3\nevaluate: false\npage: null\n")
    words = ["--teacher", "t", "--workers", "3", "--old", "--seed", "1", "--compile", "--must", "x", "--config", path]
    assert table_parser().parse_args(words) == table_parser().parse_args(["--teacher", "t", "--config", path])
    assert (
        not {"workers", "old", "must", "seed", "compile", "evaluate", "page"}
        & vars(table_parser().parse_args(words)).keys()
    )
    assert "found 'many'" in refusal(capsys, "--workers", "many")
    assert "found 'many'" in refusal(capsys, "--config", write(tmp_path, "workers: many"))
    assert "did you mean" not in refusal(capsys, "--worker", "3")
    with pytest.raises(SystemExit):
        table_parser().parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "--no-eval" in shown and "--device" in shown
    assert not any(name in shown for name in ("--workers", "--old", "--seed", "--compile", "--evaluate", "--page"))


def test_refused_options_say_why(tmp_path, capsys):
    assert refusal(capsys, "--evaluate") == "error: --evaluate: the test script does that\n"
    assert refusal(capsys, "--page", "x.html") == "error: --page: the test script does that\n"
    message = refusal(capsys, "--config", write(tmp_path, "evaluate: true"))
    assert "recipe.yaml: evaluate: the test script does that" in message
