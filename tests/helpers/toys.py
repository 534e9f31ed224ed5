"""Toy-size models and faces for tests: the real classes, narrow and with random weights, no download.

The bundled locator is the one trained part in use: finding a face cannot be done with random weights.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mirrorppr_core.faces.landmarks import FACE_POINTS, MIRROR_130
from mirrorppr_core.faces.view import CanonicalView, ViewConfig
from mirrorppr_core.geometry.displacement import pixel_grid
from mirrorppr_core.geometry.field import Field, apply_field
from mirrorppr_core.mini.field_dit import FieldDiT
from mirrorppr_core.mini.files import bundled_set, file_sha256, save_part
from mirrorppr_core.networks.config import ConnectorConfig, DiTConfig, LoRAConfig, MAEConfig, ModelConfig, RFormerConfig
from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.networks.mae import MAEEncoder
from mirrorppr_core.networks.rformer import RFormer
from mirrorppr_core.operations.llw import OPERATIONS
from training.mini.face_set import LOOKS, PROFESSIONAL_FACE, PROFESSIONAL_ROWS, TABLE_STRENGTHS, FaceSet

TINY = ModelConfig(
    name="tiny",
    view=ViewConfig(size=32),
    mae=MAEConfig(image_size=64, width=16, depth=1, heads=2),
    rformer=RFormerConfig(num_queries=4, width=16, depth=1, heads=2),
    connector=ConnectorConfig(width=16, depth=1, heads=2, output=16),
    dit=DiTConfig(depth=1, heads=2, head_dim=12, text_width=16, rope_axes=(4, 4, 4), grid=4, stem_channels=4,
                  geometry_codes=8, adaptation_width=16, bank_width=16),
    lora=LoRAConfig(rank=2, alpha=2),
)  # fmt: skip
SEEING = replace(TINY, name="seeing", view=ViewConfig())  # the same with the bundled model's view, for real photos
LOCATOR = bundled_set() / "locator.safetensors"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomise(module: nn.Module, *, std: float = 0.1, seed: int = 0) -> nn.Module:
    """Every parameter random, those that start at zero or one too: nothing may hide behind an initial value."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def astronaut() -> Tensor:
    """Eileen Collins, a public-domain photo in scikit-image: (1, 3, 512, 512) uint8."""
    from skimage import data

    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].contiguous()


def hopper() -> Tensor:
    """Grace Hopper, a public-domain photo in matplotlib: (1, 3, 600, 512) uint8."""
    import matplotlib

    with Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg") as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].contiguous()


def push(photo: Tensor, *, centre: tuple[float, float], radius: float, shift: tuple[float, float]) -> Tensor:
    """The photo with a round part moved smoothly: a retouch by hand."""
    away = pixel_grid(*photo.shape[-2:]) - torch.tensor(centre).view(1, 2, 1, 1)
    weight = (1 - away.square().sum(1, keepdim=True) / radius**2).clamp(min=0) ** 2
    return apply_field(photo, Field.from_dense(weight * torch.tensor(shift).view(1, 2, 1, 1)))


def drawn_face() -> Tensor:
    """Landmarks (130, 2) of a symmetric face that nobody has: eyes one apart, the origin between them."""
    generator = seeded(0)
    points = torch.rand(len(FACE_POINTS), 2, generator=generator) * torch.tensor([1.0, 2.4]) - torch.tensor([0.0, 0.8])
    mirrored = points[list(MIRROR_130)] * torch.tensor([-1.0, 1.0])
    right_side = torch.tensor([i < MIRROR_130[i] for i in range(len(points))])[:, None]
    points = torch.where(right_side, points * torch.tensor([-1.0, 1.0]), mirrored * torch.tensor([-1.0, 1.0]))
    middle = torch.tensor([i == MIRROR_130[i] for i in range(len(points))])
    points[middle, 0] = 0.0
    return points


def random_lora(field_dit: FieldDiT, config: LoRAConfig, *, std: float = 0.1, seed: int = 0) -> dict[str, Tensor]:
    """A LoRA file's tensors: random factors for every target."""
    generator, state = seeded(seed), {}
    for name, part in field_dit.named_modules():
        if isinstance(part, nn.Linear) and any(name.endswith("." + target) for target in config.targets):
            state[f"{name}.lora_A.weight"] = std * torch.randn(config.rank, part.in_features, generator=generator)
            state[f"{name}.lora_B.weight"] = std * torch.randn(part.out_features, config.rank, generator=generator)
    return state


def save_set(folder: Path, *, set_id: str = "0123456789ab", config: ModelConfig = TINY, trained: bool = True) -> Path:
    """A complete matched set. trained=False leaves the field network as it starts: it corrects by exactly zero."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    field_dit = FieldDiT(config)
    parts = {
        "mae": MAEEncoder(config.mae),
        "rformer": RFormer(config),
        "connector": Connector(config.connector),
        "dit": randomise(field_dit, std=0.05) if trained else field_dit,
    }
    for name, part in parts.items():
        save_part(folder / f"{name}.safetensors", name, part.state_dict(), config, set_id, file_sha256(LOCATOR))
    lora = random_lora(field_dit, config.lora)
    save_part(folder / "lora.safetensors", "lora", lora, config, set_id, file_sha256(LOCATOR))
    shutil.copyfile(LOCATOR, folder / "locator.safetensors")
    return folder


def drawn_view(config: ModelConfig = TINY) -> CanonicalView:
    return CanonicalView(config.view, drawn_face())


def drawn_faces(count: int = 6, *, alike: bool = False, error: float = 0.0, config: ModelConfig = TINY) -> FaceSet:
    """Faces with random pixels, shapes and operation tables. alike: all have the template's shape and one table.

    The operations are smooth pushes on both sides of `table_amount(strength)`; alike makes the sides equal. The bank
    holds the tables' own motions. error: mean error of a look at a face, in eye distances.
    """
    generator, view = seeded(1), drawn_view(config)
    landmarks = view.template.expand(count, -1, -1)
    if not alike:
        landmarks = landmarks + 0.3 * torch.randn(count, len(FACE_POINTS), 2, generator=generator)
    shapes, similarity = view.shapes(landmarks)
    n, size = config.view.size, config.mae.image_size
    pushes = [_push(n, generator) for _ in OPERATIONS]
    pushes = [push + mirrored(push) for push in pushes]
    sides = [_push(n, generator) for _ in PROFESSIONAL_FACE]
    rows = torch.zeros(sum(map(len, PROFESSIONAL_ROWS.values())), 2, n, n)
    for push, (_, own) in zip(sides, PROFESSIONAL_ROWS.items(), strict=True):
        rows[list(own)] = torch.cat([push, mirrored(push)]) if len(own) == 2 else push + mirrored(push)
    amounts = torch.tensor([table_amount(s / 100) for s in TABLE_STRENGTHS]).view(1, 1, -1, 1, 1, 1)
    across = torch.linspace(0.6, 1.4, n).expand(count, n)
    own = torch.ones(count, n) if alike else across * (0.7 + 0.6 * torch.rand(count, 1, generator=generator))
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    pixels = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    llw = (own.view(-1, 1, 1, 1, 1, n) * amounts * torch.stack(pushes)).half()
    professional = (own.view(-1, 1, 1, 1, n) * rows).half()
    both_ways = llw[:, :, [TABLE_STRENGTHS.index(100), TABLE_STRENGTHS.index(-100)]].flatten(1, 2)
    wrong = torch.randn(count, LOOKS, len(FACE_POINTS), 2, generator=generator)
    return FaceSet(
        pixels=(pixels * 255).round().byte(),
        shapes=shapes,
        points=similarity.inverse(landmarks),
        weight=torch.ones(count),
        identity=[f"person {i // 2}" for i in range(count)],
        place=torch.arange(count),
        llw=llw,
        professional=professional,
        atoms=torch.cat([both_ways, professional], dim=1)[:, None].repeat(1, LOOKS, 1, 1, 1, 1),
        errors=wrong / wrong.norm(dim=-1, keepdim=True) * error * view.cells_per_eye_distance,
    )


def _push(n: int, generator: torch.Generator) -> Tensor:
    """A smooth motion of some part of the view, (1, 2, n, n) cells."""
    centre = n * (0.35 + 0.3 * torch.rand(2, generator=generator)).view(1, 2, 1, 1)
    weight = (1 - ((pixel_grid(n, n) - centre) / (0.2 * n)).square().sum(1, keepdim=True)).clamp(min=0) ** 2
    return weight * torch.randn(1, 2, 1, 1, generator=generator)


def table_amount(strength: float) -> float:
    """How far the drawn faces' operations push at a strength in [-1, 1]: more upwards than downwards."""
    return strength * (1 + strength / 4)


def mirrored(field: Tensor) -> Tensor:
    """The field of the picture flipped left to right. (..., 2, H, W)."""
    return field.flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1)


def retouched_mouth(photo: Tensor) -> Tensor:
    """Eileen Collins' smile pulled up to one side."""
    return push(photo, centre=(226, 152), radius=28, shift=(5.0, 3.0))
