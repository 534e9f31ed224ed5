"""An operation of our own, made on a photo, read from the pair and done to the same photo again: its own motion."""

import pytest
import torch
from test_body import standing
from toys import astronaut

from mirrorppr_core.bodies.pose_network import MEDIAPIPE_POSE
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import length, warp
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.on_body import as_pose
from mirrorppr_core.operations.professional import professional_displacement


@pytest.fixture(scope="module")
def model() -> MirrorPPR:
    pytest.importorskip("skimage")
    return MirrorPPR.bundled()


@pytest.mark.parametrize(
    ("operation", "strength"),
    [("thin_shoulders", 80.0), ("thin_shoulders", -80.0), ("right_shoulder", 90.0), ("slim_hand", 90.0)],
)
def test_an_own_operation_gives_its_own_motion_back_on_its_own_photo(model, operation, strength):
    before, choice = astronaut().float() / 255, standing(model, astronaut())
    pose = as_pose(choice.given[0].points, choice.given[0].told, MEDIAPIPE_POSE)
    inside = ((pose[:, :2] >= 0) & (pose[:, :2] < 512)).all(1)
    pose[:, 3] *= inside
    name = f"body_shape_{operation}"
    made = professional_displacement(None, pose, (512, 512), operation=name, strength=strength)
    after = (warp(before, made) * 255).round() / 255
    found = model.extract(Exemplar(before, after), poses=[choice])
    assert not found.body.named or [one.name for one in found.body.named] == [name], "or the bank tells it"
    again = model.retouch(before, found, pose=choice).field.dense()
    moved = length(made)[0, 0] > 0.02 * length(made).amax()
    off = length(again - made)[0, 0]
    assert off[moved].mean() < 0.2 * length(made)[0, 0][moved].mean()
    assert not torch.equal(again, torch.zeros_like(again))
