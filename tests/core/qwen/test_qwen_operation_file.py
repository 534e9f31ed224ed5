"""Operation files of the Qwen engine, and between the engines."""

import pytest
import torch
from torch import Tensor

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.operation_file import opened, save_operation
from mirrorppr_core.qwen.extractor import QwenOperation
from mirrorppr_core.qwen.operation_file import load_qwen_operation, save_qwen_operation
from mirrorppr_core.qwen.patch_order import CANONICAL, PatchOrder


def pair() -> Exemplar:
    picture = torch.arange(3 * 20 * 16, dtype=torch.int32).remainder(256).to(torch.uint8).view(1, 3, 20, 16)
    return Exemplar(picture, 255 - picture)


def extracted(set_id: str = "own", patch_order: PatchOrder = CANONICAL) -> QwenOperation:
    tokens = torch.arange(32.0).view(1, 4, 8)
    return QwenOperation(
        tokens=tokens, set_id=set_id, kind="face", patch_order=patch_order, notes=("a note",), exemplars=(pair(),)
    )


def again(exemplar: Exemplar) -> QwenOperation:
    return QwenOperation(tokens=mean(exemplar), set_id="new", kind="face", patch_order=CANONICAL)


def mean(exemplar: Exemplar) -> Tensor:
    return (exemplar.after.float() - exemplar.before.float()).mean().view(1, 1, 1)


def test_tokens_come_back_to_the_bit_without_any_picture(tmp_path):
    operation = extracted(patch_order=PatchOrder(seed=123_456_789_012))
    save_qwen_operation(tmp_path / "a.safetensors", operation)
    kept = load_qwen_operation(tmp_path / "a.safetensors", "own")
    assert torch.equal(kept.tokens, operation.tokens) and kept.patch_order == operation.patch_order
    assert (kept.set_id, kept.kind, kept.notes, kept.exemplars) == ("own", "face", ("a note",), ())
    assert opened(tmp_path / "a.safetensors").metadata["privacy"] == "This file holds no pictures."


def test_another_set_extracts_it_again_or_refuses_it(tmp_path):
    for pictures in ("none", "exemplar"):
        save_qwen_operation(tmp_path / f"{pictures}.safetensors", extracted(), pictures=pictures)
    made = load_qwen_operation(tmp_path / "exemplar.safetensors", "new", again)
    assert made.set_id == "new" and torch.equal(made.tokens, mean(pair())) and "of set own" in made.notes[0]
    with pytest.raises(ValueError, match="is of set own, and holds no exemplar to extract it from: load its own set"):
        load_qwen_operation(tmp_path / "none.safetensors", "new", again)
    with pytest.raises(ValueError, match="no set is connected"):
        load_qwen_operation(tmp_path / "exemplar.safetensors", "new")


def test_an_operation_of_mini_is_extracted_again_from_its_exemplar(tmp_path):
    zeros = torch.zeros(1, 2, 16, 16)
    mini = Operation(
        tokens=torch.zeros(1, 1, 1), motion=zeros, shape=zeros, atoms=zeros[:, None], set_id="m", exemplars=(pair(),)
    )
    for pictures in ("none", "exemplar"):
        save_operation(tmp_path / f"{pictures}.safetensors", mini, pictures=pictures)
    made = load_qwen_operation(tmp_path / "exemplar.safetensors", "new", again)
    assert torch.equal(made.tokens, mean(pair())) and "of the engine mini" in made.notes[0]
    with pytest.raises(ValueError, match="is of the engine mini, and holds no exemplar"):
        load_qwen_operation(tmp_path / "none.safetensors", "new", again)


def test_thumbnails_are_minis(tmp_path):
    with pytest.raises(ValueError, match="pictures='thumbnails': use one of none, exemplar"):
        save_qwen_operation(tmp_path / "a.safetensors", extracted(), pictures="thumbnails")
