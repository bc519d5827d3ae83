"""Levels, profiles and model sizes as data: (algorithm, mode) -> preset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from crystrata.errors import unknown_name

OptimizerName = Literal["adamw", "soap", "muon"]
Schedule = Literal["cosine", "plateau", "constant"]
_SCHEDULE_NAMES: dict[str, Schedule] = {
    "cosine": "cosine",
    "plateau": "plateau",
    "reducelronplateau": "plateau",
    "constant": "constant",
    "none": "constant",
}
"""Name in small letters, as the settings of an optimizer write it -> learning rate over time."""

ALGORITHMS = ("e3nn", "cgcnn")
LEVELS = ("smoke", "lite", "std", "pro", "max")
COMPETITION, LEADERBOARD = "competition", "leaderboard"
PROFILES = (COMPETITION, LEADERBOARD)
MODES = (*LEVELS, *PROFILES)


@dataclass(frozen=True)
class Preset:
    """One cell of the table: what a level or profile means for an algorithm."""

    script: str  # script under scripts/phase2_multitask that runs the same preset
    size: str  # row of `SIZES`
    epochs: int  # passes over the training part
    batch_size: int  # crystals per micro-batch
    lr: float  # peak learning rate
    use: str  # what it is for
    accumulate: int = 1  # micro-batches per optimizer step
    max_samples: int | None = None  # crystals used in all parts together; None uses all
    family: str = "multitask_cgcnn"  # folder under models/ that receives the runs of all properties together
    training: dict[str, Any] = field(default_factory=dict)  # training settings that differ from the track's


_STD, _PRO, _CGCNN = "train_multitask_std.py", "train_multitask_pro.py", "train_multitask_cgcnn.py"
_STD_RUNS, _PRO_RUNS, _LITE_RUNS = "multitask_std_e3nn", "multitask_pro_e3nn", "multitask_lite_e3nn"

_TO_THE_END = 1000  # epochs: a run that starts from trained weights is worse at first, and best when its rate is lowest

PRESETS: dict[tuple[str, str], Preset] = {
    ("e3nn", "smoke"): Preset(_STD, "std", 5, 8, 2e-3, "end-to-end sanity", family=_STD_RUNS),
    ("e3nn", "lite"): Preset("train_multitask_lite.py", "lite", 2, 4, 1e-2, "pipeline check", max_samples=140,
                             family=_LITE_RUNS),
    ("e3nn", "std"): Preset(_STD, "std", 100, 16, 1e-3, "development", family=_STD_RUNS),
    ("e3nn", "pro"): Preset(_PRO, "pro", 500, 4, 5e-4, "production", accumulate=4, family=_PRO_RUNS),
    ("e3nn", "max"): Preset(_PRO, "pro", 800, 4, 3e-4, "highest precision", accumulate=4, family=_PRO_RUNS),
    ("e3nn", "competition"): Preset(_PRO, "pro", 260, 6, 4.5e-4, "score against runtime", accumulate=4,
                                    family=_PRO_RUNS),
    ("e3nn", "leaderboard"): Preset(_STD, "std", 40, 32, 3e-3, "accuracy per hour", family=_STD_RUNS,
                                    training={"weight_decay": 0.05, "patience": _TO_THE_END}),
    ("cgcnn", "smoke"): Preset(_CGCNN, "small", 5, 64, 1e-3, "quick check", max_samples=800),
    ("cgcnn", "lite"): Preset(_CGCNN, "small", 40, 96, 1e-3, "fast baseline", max_samples=3000),
    ("cgcnn", "std"): Preset(_CGCNN, "medium", 200, 128, 1e-3, "standard baseline"),
    ("cgcnn", "pro"): Preset(_CGCNN, "large", 300, 128, 1e-3, "strong baseline"),
    ("cgcnn", "max"): Preset(_CGCNN, "large", 500, 160, 7e-4, "maximum baseline"),
    ("cgcnn", "competition"): Preset(_CGCNN, "medium", 280, 128, 9e-4, "score against runtime"),
    ("cgcnn", "leaderboard"): Preset(_CGCNN, "medium", 40, 64, 3e-3, "accuracy per hour",
                                     training={"weight_decay": 0.05, "schedule": "cosine", "patience": _TO_THE_END}),
}  # fmt: skip
"""(algorithm, mode) -> preset; the manual's tables are made from it."""

SPECIALISTS: dict[tuple[str, str], dict[str, Any]] = {("e3nn", "pro"): {"lr": 2e-4, "patience": 250}}
"""(algorithm, mode) -> what differs from the preset where a network is trained for one property alone."""

SIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("e3nn", "lite"): {"channels": 32, "layers": 2, "radial_hidden": 32},
    ("e3nn", "std"): {"channels": 64, "layers": 3},
    ("e3nn", "pro"): {"channels": 128, "layers": 4},
    ("cgcnn", "small"): {"channels": 64, "layers": 2},
    ("cgcnn", "medium"): {"channels": 128, "layers": 3},
    ("cgcnn", "large"): {"channels": 256, "layers": 5},
}
"""(algorithm, size) -> settings of the encoder."""


@dataclass(frozen=True)
class EncoderRow:
    """One encoder: all that flags must know of it before torch is imported."""

    algorithm: str  # track whose runs may choose it
    module: str  # module under `networks/encoders`
    name: str  # class in that module
    without: tuple[str, ...] = ()  # settings that its track has and it has not


ENCODERS: dict[str, EncoderRow] = {
    "e3nn": EncoderRow("e3nn", "e3nn", "E3NNEncoder"),
    "cgcnn": EncoderRow("cgcnn", "cgcnn", "CGCNNEncoder"),
    "plain_e3nn": EncoderRow("e3nn", "plain_e3nn", "PlainE3NNEncoder", without=("radial_hidden", "angles")),
}
"""Name -> encoder; a track's own has its name, `plain_e3nn` is the readable reference trunk. Every row passes the
contract suite in tests/contracts."""

ANGLE_FORMS = ("none", "cached", "density")
"""Where the angle features on the edges come from."""

SIZE_ALIASES = {"small": "lite", "medium": "std", "large": "pro"}
"""`--preset` speaks of small, medium and large in both tracks; the e3nn sizes answer to them."""


@dataclass(frozen=True)
class TrackDefaults:
    """Training settings that all presets of an algorithm share."""

    schedule: Schedule  # learning rate over time: cosine to 1 % with a short warm-up, or halved on a plateau
    clip: float  # largest gradient norm
    weight_decay: float = 1e-5  # Of AdamW
    ema: float = 0.999  # decay of the moving average of the weights that is validated and saved
    learned_balance: bool = True  # whether the task weights are learned


TRACKS: dict[str, TrackDefaults] = {
    "e3nn": TrackDefaults("cosine", clip=0.5),
    "cgcnn": TrackDefaults("plateau", clip=1.0),
}


def get_preset(algorithm: str, mode: str) -> Preset:
    """Return the preset of an algorithm and a level or profile; a UsageError if a name is unknown."""
    if algorithm not in ALGORITHMS:
        raise unknown_name("algorithm", algorithm, ALGORITHMS)
    if mode not in MODES:
        raise unknown_name("level", mode, MODES)
    return PRESETS[algorithm, mode]


def resolve_size(algorithm: str, size: str) -> str:
    """Return the size's own name in a track (`small` is `lite` for e3nn); a UsageError if it has no such size."""
    known = [name for track, name in SIZES if track == algorithm]
    for candidate in (size, SIZE_ALIASES.get(size, size)):
        if candidate in known:
            return candidate
    raise unknown_name(f"size of {algorithm}", size, [*known, *(SIZE_ALIASES if algorithm == "e3nn" else ())])


def schedule_named(scheduler_type: str | None) -> Schedule | None:
    """Return the schedule that settings of an optimizer name, None where none; a UsageError if unknown."""
    if scheduler_type is None:
        return None
    if str(scheduler_type).lower() not in _SCHEDULE_NAMES:
        raise unknown_name("scheduler_type", str(scheduler_type), _SCHEDULE_NAMES)
    return _SCHEDULE_NAMES[str(scheduler_type).lower()]
