"""What every reference-vector check needs: the file's arrays, weights by the fill rule, and tolerances."""

import json
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.run import checkpoint


def fill(name: str, shape: tuple[int, ...], salt: str) -> np.ndarray:
    """The value of state-dict entry `name`, by the rule that the reference vectors share."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    rng = np.random.default_rng(zlib.crc32(f"{salt}/{name}".encode()))
    if name.endswith("running_var"):
        value = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        value = rng.normal(0.0, 0.1, shape)
    elif len(shape) >= 2:
        value = rng.normal(0.0, 1.0, shape) / np.sqrt(np.prod(shape[1:]))
    elif name.endswith("weight"):
        value = rng.uniform(0.5, 1.5, shape)
    else:
        value = rng.normal(0.0, 0.1, shape)
    return value.astype(np.float32)


def filled_state(layout: list, salt: str) -> dict[str, Tensor]:
    """State dict of a stored layout, a list of [name, shape, dtype]."""
    return {name: torch.from_numpy(fill(name, tuple(shape), salt)) for name, shape, _ in layout}


def load_filled(model: torch.nn.Module, state: dict[str, Tensor]) -> torch.nn.Module:
    """Send a state dict through a file and the project's own loader into `model`, in evaluation mode."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "filled.bin"
        torch.save({"epoch": 1, "lr": 1e-3, "model_pos": state}, path)
        checkpoint.load_weights(model, checkpoint.load(path)["model_pos"], path)
    return model.eval()


@dataclass(frozen=True)
class Tolerance:
    """|a - b| <= absolute + relative |b| + of_largest max|b|."""

    absolute: float = 0.0
    relative: float = 0.0
    of_largest: float = 0.0

    def worst(self, found: np.ndarray, expected: np.ndarray) -> tuple[float, bool]:
        """(largest absolute difference, whether every entry is within the tolerance)."""
        if found.shape != expected.shape:
            return float("inf"), False
        found, expected = found.astype(np.float64), expected.astype(np.float64)
        if not found.size:
            return 0.0, True
        error = np.abs(found - expected)
        allowed = self.absolute + self.relative * np.abs(expected) + self.of_largest * np.abs(expected).max()
        return float(error.max()), bool((error <= allowed).all())


FORWARD = Tolerance(absolute=1e-4, relative=1e-4)
GRADIENT = Tolerance(relative=1e-3, of_largest=1e-5)
ROTATION = Tolerance(absolute=1e-5)
METRIC_M = Tolerance(absolute=1e-6)  # 1e-3 mm on values in metres
PRINTED_MM = Tolerance(absolute=6e-3)
EXACT = Tolerance()


@dataclass
class Golden:
    """One reference file. Checks `found` values against its arrays; what is neither checked nor input is a miss."""

    path: Path
    salt: str
    rows: list[tuple[str, float, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        with np.load(self.path) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.meta = json.loads(str(self.arrays.pop("meta")))
        self.layout = json.loads(str(self.arrays.pop("layout")))

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def check(self, name: str, found, tolerance: Tolerance = FORWARD) -> None:
        """Compare one array."""
        found = found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
        self.rows.append((name, *tolerance.worst(found, self.arrays[name])))

    def unchecked(self, inputs: tuple[str, ...]) -> list[str]:
        """Arrays that no check touched, leaving out inputs (by prefix where it ends in *)."""
        done = {row[0] for row in self.rows}
        exact = {name for name in inputs if not name.endswith("*")}
        prefixes = tuple(name[:-1] for name in inputs if name.endswith("*"))
        return [n for n in self.arrays if n not in done | exact and not (prefixes and n.startswith(prefixes))]
