"""A retouch through the frames of a sequence: one person, steady over time.

Two things make single frames tremble: the locator errs anew in each (faces/steady.py), and the network's answer, the
motion in the canonical view, changes a little with every view of the face, though the retouch of one person hardly
does. So all frames are looked at first; then each gets the steadied face, and the answers' mean over time around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..bodies.sources import PoseChoice
from ..faces.steady import Follower, FrameFace, weights_in_time
from ..images import check_photo
from ..networks.connector import Connector
from .arithmetic import AnyOperation
from .editor import FieldEditor, RetouchConfig, Retouched
from .person import Frame

_SPREAD = 8.0  # frames, over which answers are averaged


@dataclass
class FrameSequence:
    """Show it every frame with `look`, in order, then ask for each with `retouch`.

    answers: of each frame that was looked at, what the network said, in the order in which it was asked.
    """

    editor: FieldEditor
    operation: AnyOperation
    connector: Connector
    config: RetouchConfig
    answers: list[list[Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.follower = Follower(self.config.face)
        self.size: tuple[int, int] | None = None
        self._steady: list[FrameFace] | None = None

    def look(self, frame: Tensor | None, name: str, pose: PoseChoice | None = None) -> None:
        """frame: (1, C, H, W), or None where it cannot be read.  name: as the user knows it.

        Raises ValueError where the frames differ in size.
        """
        answers, found = [], []
        if frame is not None:
            check_photo(frame, name)
            size = frame.shape[-1], frame.shape[-2]
            self.size = self.size or size
            if size != self.size:
                raise ValueError(
                    f"{name} is {size[0]}x{size[1]} but the frames before it are {self.size[0]}x{self.size[1]}: a "
                    "sequence has one size. Retouch other pictures by themselves."
                )
            found = self.editor.sight.faces(frame)
        face = self.follower.see(found)
        if face is not None:
            known = Frame(face=face)
            self.editor.retouch(frame, self.operation, self.connector, self.config, pose=pose, frame=known)
            answers = known.answers
        self.answers.append(answers)
        self._steady = None

    def retouch(self, index: int, frame: Tensor, pose: PoseChoice | None = None) -> Retouched:
        """The frame that was the index-th to be looked at. Raises ValueError where nobody is to be seen."""
        self._steady = self._steady or self.follower.steadied()
        steady = self._steady[index]
        if steady.face is None:
            raise ValueError(steady.problem)
        known = Frame(face=steady.face, given=self._around(index))
        result = self.editor.retouch(frame, self.operation, self.connector, self.config, pose=pose, frame=known)
        return replace(result, notes=(*result.notes, steady.problem)) if steady.problem else result

    def _around(self, index: int) -> list[Tensor]:
        """The answers' mean over the frames around this one, of one scene; none where frames asked differently."""
        scene = next(scene for scene in self.follower.scenes() if index in scene)
        count = len(self.answers[index]) or max(len(self.answers[i]) for i in scene)
        alike = [i for i in scene if len(self.answers[i]) == count]
        weights = weights_in_time(torch.tensor(alike, dtype=torch.float32), index, _SPREAD)
        weights = weights / weights.sum()
        return [
            sum(float(w) * self.answers[i][asked] for w, i in zip(weights, alike, strict=True) if w)
            for asked in range(count)
        ]
