"""MirrorPPR as a user sees it: extract an operation once, apply it to any number of portraits.

model = MirrorPPR.bundled()
operation = model.extract(Exemplar(before, after))            or [Exemplar(...), Exemplar(...)] of one look
result = model.retouch(query, operation, RetouchConfig(strength=0.8))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..bodies.sources import PoseChoice
from ..exemplar import Exemplar
from .arithmetic import AnyOperation
from .editor import FieldEditor, RetouchConfig, Retouched
from .extractor import OperationExtractor
from .files import LoadedConnector, bundled_set, check_one_set, load_connector, load_editor, load_extractor, load_sight
from .operation import Operation


@dataclass(frozen=True)
class MirrorPPR:
    """One matched set, ready to use. What was seen beside an operation, `extractor.extract` tells."""

    extractor: OperationExtractor
    connector: LoadedConnector
    editor: FieldEditor

    def __post_init__(self) -> None:
        check_one_set(extractor=self.extractor.set_id, connector=self.connector.set_id, dit=self.editor.set_id)

    @classmethod
    def from_folder(cls, folder: Path) -> MirrorPPR:
        """Load the matched set in a folder (files.py lists its files)."""
        sight = load_sight(folder)
        return cls(
            extractor=load_extractor(folder / "rformer.safetensors", sight),
            connector=load_connector(folder / "connector.safetensors"),
            editor=load_editor(folder / "dit.safetensors", sight),
        )

    @classmethod
    def bundled(cls) -> MirrorPPR:
        """The Mini weights that come with this package."""
        return cls.from_folder(bundled_set())

    def extract(
        self,
        exemplar: Exemplar | Sequence[Exemplar],
        *,
        face: str = "only",
        poses: Sequence[PoseChoice] | None = None,
    ) -> Operation:
        """From one pair, or from two to eight of one look, which is better (several.py)."""
        exemplars = [exemplar] if isinstance(exemplar, Exemplar) else exemplar
        return self.extractor.extract_together(exemplars, face=face, poses=poses).operation

    def refine(
        self, operation: Operation, correction: Exemplar, *, face: str = "only", pose: PoseChoice | None = None
    ) -> Operation:
        """A better operation from a result corrected by hand.  correction: the query, and its corrected result."""
        return self.extractor.refine(operation, correction, face=face, pose=pose).operation

    def retouch(
        self,
        query: Tensor,
        operation: AnyOperation,
        config: RetouchConfig | None = None,
        *,
        region: Tensor | None = None,
        pose: PoseChoice | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Retouched:
        return self.editor.retouch(
            query, operation, self.connector.connector, config, region=region, pose=pose, on_step=on_step
        )
