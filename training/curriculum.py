"""The curriculum as data: what each stage trains, from what, for how long and how fast.

    0a encoder    0b geometry, backbone    I extractor    II joint on simulated, then also on professional operations
    body          beside them, for mini-pro: the network that finds the joints, on renders and real pictures
    finder    rough    aligned    before them all, a run of their own: the face locator

Stages run in the order of their tuple; each starts from the results that `starts` names. A preset (presets.py) is such
a tuple with its data and model. A step is a pure function of (seed, step, part), so a run can be stopped and resumed
anywhere, and split over any number of processes.
"""

from __future__ import annotations

from dataclasses import replace

from .runs.stage import Stage

_BACKBONE = {"mae": "encoder", "field_dit": "backbone"}

# How tools that have no name follow a face, learned from random ones.
CARRY = Stage(
    name="carry", module="carry", trains="network for tools without a name", steps=2400, batch=128, learning_rate=2e-3,
    ema=0.999,
)  # fmt: skip

CARRY_LONG = replace(CARRY, name="carry-long", steps=1300, learning_rate=1.2e-3, starts={"carry": "carry"})

# The bundled Mini: about an hour on one CPU core in all.
MINI_FACE = (
    Stage(name="encoder", module="encoder", trains="MAE", steps=1000, batch=16, learning_rate=1e-3),
    Stage(
        name="geometry", module="geometry", trains="bank fit, adaptation to a face", steps=4000, batch=64,
        learning_rate=2e-3, data="both",
    ),
    Stage(
        name="backbone", module="backbone", trains="field DiT", steps=800, batch=32, learning_rate=7e-4, data="both",
        starts={"mae": "encoder", "adaptation": "geometry", "names": "geometry"},
    ),
    Stage(
        name="extractor", module="extractor", trains="R-Former", steps=600, batch=32, learning_rate=1e-3, data="both",
        starts={"mae": "encoder"},
    ),
    Stage(
        name="joint", module="joint", trains="R-Former, connector, LoRA", steps=300, batch=32, learning_rate=1e-3,
        starts={**_BACKBONE, "rformer": "extractor"},
    ),
    Stage(
        name="joint-pro", module="joint", trains="R-Former, connector, LoRA", steps=600, batch=32, learning_rate=7e-4,
        starts={**_BACKBONE, "rformer": "joint", "connector": "joint", "lora": "joint"}, data="both",
    ),
    CARRY,
    CARRY_LONG,
)  # fmt: skip

# Where the joints of bodies are, so that retouches of bodies can be carried: on squares much harder than use, nearly
# half of them of real pictures, of which there are few. 2.7 million squares: eight minutes of a large GPU, which draws
# them itself (body/device_squares.py); more than a day of a CPU (training/README.md says what to shorten there).
BODY = (
    Stage(
        name="body", module="body", trains="pose network", steps=5278, batch=512, learning_rate=2.5e-3, warmup=300,
        weight_decay=0.1, clip=5.0, ema=0.999, samples={"real_share": 0.45, "hard": 0.8, "moved": 0.4},
    ),
)  # fmt: skip

# The same with three times as much of joint-pro, mostly on professional operations, and with the body.
MINI_PRO = (
    *(
        replace(stage, steps=3 * stage.steps, data="professional") if stage.name == "joint-pro" else stage
        for stage in MINI_FACE
    ),
    *BODY,
)


# The face locator: about 40 minutes on one CPU core. The last stage ends with the ridge regression to the mesh.
_LOCATOR = {"learning_rate": 2e-3, "clip": 5.0}
LOCATOR = (
    Stage(name="finder", module="finder", trains="finder", steps=2000, batch=24, **_LOCATOR),
    Stage(name="stage1", module="rough", trains="landmarks of rough crops", steps=5625, batch=16, **_LOCATOR),
    Stage(
        name="stage2", module="aligned", trains="landmarks of aligned crops, mesh", steps=3750, batch=32,
        starts={"net": "stage1"}, **_LOCATOR,
    ),
)  # fmt: skip

# The paper's stages on the 20B backbone. Stage I's steps are the paper's; it does not say those of Stage II.
_QWEN_EXTRACTOR = Stage(
    name="extractor", module="extractor", trains="R-Former", steps=43_000, batch=32, learning_rate=1e-4, warmup=1000,
    weight_decay=1e-4, ema=0.999,
)  # fmt: skip
_QWEN_JOINT = Stage(
    name="joint", module="joint", trains="R-Former, connector, LoRA", steps=20_000, batch=16, micro_batch=1,
    learning_rate=1e-4, warmup=500, weight_decay=0.01, ema=0.999, starts={"rformer": "extractor"},
)  # fmt: skip
QWEN_FACE = (_QWEN_EXTRACTOR, _QWEN_JOINT)
QWEN_PRO = (
    replace(_QWEN_EXTRACTOR, data="both"),
    _QWEN_JOINT,
    replace(
        _QWEN_JOINT, name="joint-pro", learning_rate=5e-5, data="professional",
        starts={"rformer": "joint", "connector": "joint", "lora": "joint"},
    ),
)  # fmt: skip


def shortened(stages: tuple[Stage, ...], *, steps: int, batch: int, learning_rate: float) -> tuple[Stage, ...]:
    """The same stages for a rehearsal: few steps, small batches, no long start."""
    changes = {"steps": steps, "batch": batch, "learning_rate": learning_rate, "warmup": 2}
    return tuple(replace(stage, **changes) for stage in stages)
