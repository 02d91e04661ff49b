"""Random job specs on the drawn images: what users may combine, and values at the limits."""

import random
from collections.abc import Sequence

from small_job import ARCFACE, network_text

from distill.losses.settings import names as loss_names

BACKBONES = ("seesaw_mobi", "vargfacenet", "iresnet18", "edgeface_xxs", "facelivt_s")


def table(text: str) -> dict[str, list[str]]:
    """The values of each key: ``KEY: VALUE | VALUE; KEY: VALUE``."""
    entries = (each.strip().split(": ", 1) for each in text.split(";"))
    return {key: values.split(" | ") for key, values in entries}


STAGE = table("""
sampler: { kind = "pk", images = 2 } | { kind = "pk", images = 3, least_images = 6 };
optimiser: "kept"; learning_rate: 1e-6 | 1.0; body_learning_rate: 0.001 | 1.0; freeze: "body"
""")
AUGMENT = table("""
views: 1 | 3 | 16 | "fresh"; plain: 0.0 | 0.5 | 0.99; teacher_sees: "plain"; mix: 0.1 | 1.0;
least_cosine: -1.0 | 0.99; grey: 0.0 | 1.0;
crop: { share = 1.0, shift = 0.5, scale = 0.5, rotation = 180.0 };
low_resolution: { share = 1.0, pixels = 4 } | { share = 1.0, pixels = 4096 };
blur: { share = 1.0, sigma = 1e-6 } | { share = 1.0, sigma = 20.0 };
erase: { share = 1.0, side = 1e-9 } | { share = 1.0, side = 1.0 };
jpeg: { share = 1.0, quality = 1 };
tone: { share = 1.0, brightness = 0.5, contrast = 0.5, gamma = 2.0, colour = 0.5 }
""")
GENERATIONS = table("""
count: 1 | 2 | 3; seeds: [0] | [0, 1] | [1, 1]; select_on: ["pairs"]; stop_without_gain: true;
least_gain: 0.5
""")
TRAIN = table("""
optimiser: "adamw" | "sgd"; learning_rate: 0.01 | 1e-5; final_learning_rate: 0.0 | 0.001;
schedule: "linear" | "polynomial" | "step" | "constant" | "cosine";
milestones: [0.5] | [0.3, 0.6] | [1.0]; decay: 0.5; power: 0.5 | 50.0; warmup: 0.0 | 0.5 | 0.999;
momentum: 0.0 | 0.99; weight_decay: 0.0 | 1.0; head_weight_decay: 0.0 | 10.0; ema: 0.5 | 0.999999;
clip_gradient_norm: 1e-9 | 5.0; seed: 1 | 4294967295; shuffle: "windowed"; shuffle_window: 1 | 10;
engine: "torch" | "deepspeed"; zero_stage: 1 | 2; accumulate: 2 | 3;
centres: { sample_rate = 0.5 } | { sample_rate = 0.01, sharded = true }; precision: "bf16";
activation_checkpointing: true; on_divergence: {} | { retries = 1, rate_factor = 0.5 };
checkpoint_every: 1 | 3; keep_checkpoints: 1; evaluate_every: 1 | 4; keep: "best" | "last";
decode_threads: 1 | 8
""")


def random_spec(seed: int) -> str:
    """A spec; about a tenth of them can be run, and the others contradict themselves somewhere."""
    draw = random.Random(seed)
    teacher = draw.choice(["", "float16", "float16", "int8", "online"])
    lines = [f'name = "random-{seed}"', 'data = { train = "drawn/train", evaluate = ["pairs"] }']
    if teacher:
        lines += [
            "[teacher]",
            f"network = {network_text('iresnet18', draw.choice([8, 16]))}",
            f"stage = {{ epochs = 1, losses = {{ {ARCFACE} }} }}",
            f'train = {{ batch_size = 12 }}\nleast_accuracy = 0.0\nanswers = "{teacher}"',
        ]
    backbone = draw.choice(["mobilefacenet"] * 4 + list(BACKBONES))
    size = draw.choice([[32, 32]] * 3 + [[48, 32], [16, 16], [40, 40]])
    lines += ["[student]", f'backbone = "{backbone}"\ninput_size = {size}']
    lines += some(draw, {"embedding": ("1", "2", "8", "16", "17")}, 0.6)
    lines += some(draw, {"dropout": ("0.1", "0.99")}, 0.15)
    lines.append(f"width = {draw.choice([0.05, 0.125, 0.25])}")
    if draw.random() < 0.4:
        lines += ["[augment]", *some(draw, AUGMENT, 0.25)]
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        lines += ["[[stage]]", f"losses = {{ {losses(draw, bool(teacher))} }}"]
        lines += ["epochs = 1", *some(draw, STAGE, 0.1)]
    if draw.random() < 0.3:
        lines += ["[generations]", *some(draw, GENERATIONS, 0.4)]
    lines += ["[train]", f"batch_size = {draw.choice([1, 2, 3, 7, 12, 16, 24, 48, 1000])}"]
    return "\n".join([*lines, *some(draw, TRAIN, 0.06)]) + "\n"


def some(draw: random.Random, table: dict[str, Sequence[str]], share: float) -> list[str]:
    """Lines for a random ``share`` of the keys."""
    return [f"{key} = {draw.choice(v)}" for key, v in table.items() if draw.random() < share]


def losses(draw: random.Random, has_teacher: bool) -> str:
    names = draw.sample(loss_names(), draw.choice([1, 1, 2, 3]))
    if has_teacher and "angular" not in names:
        names.append("angular")
    weights = ("", "", "weight = 1e-9", "weight = 10.0")
    return ", ".join(f"{name} = {{ {draw.choice(weights)} }}" for name in names)
