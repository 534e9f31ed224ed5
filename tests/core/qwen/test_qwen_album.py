"""The Qwen engine on an album: every photo once, in order, a group at a time."""

import torch

from mirrorppr_core.qwen.album import GROUP, retouch_album


class Engine:
    """Stands for the 20 B model: gives each picture back and counts what it was handed at once."""

    def __init__(self):
        self.handed = []

    def generate(self, photos, operation, config):
        self.handed.append(len(photos))
        return [photo.float() for photo in photos]


def test_memory_holds_a_group_and_never_an_album():
    engine, read = Engine(), []

    def photos():
        for number in range(2 * GROUP + 3):
            read.append(number)
            yield torch.full((1, 3, 8, 8), float(number))

    results = retouch_album(engine, photos(), None, None, generated=True)
    first = next(results)
    assert len(read) == GROUP and float(first.image[0, 0, 0, 0]) == 0
    rest = [float(result.image[0, 0, 0, 0]) for result in results]
    assert rest == list(range(1, 2 * GROUP + 3)) and engine.handed == [GROUP, GROUP, 3]
