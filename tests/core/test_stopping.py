"""Long work asks whether it shall end; and what decides a result runs on one thread."""

import pytest
import torch
import torch.nn.functional as F
from gaps import gaps
from toys import SEEING, astronaut, hopper, push, retouched_mouth, save_set

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.motion.reproject import reproject
from mirrorppr_core.one_thread import one_thread
from mirrorppr_core.operations.sliders import Amount, Sliders
from mirrorppr_core.stopping import stop_if_asked, stoppable

pytest.importorskip("skimage")


class Enough(Exception):
    pass


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MirrorPPR:
    return MirrorPPR.from_folder(save_set(tmp_path_factory.mktemp("set"), config=SEEING))


@pytest.fixture
def threads():
    """Two threads for torch, and afterwards as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def stop() -> None:
    raise Enough


def test_without_a_question_nothing_is_asked():
    stop_if_asked()
    with stoppable(stop), pytest.raises(Enough):
        stop_if_asked()
    stop_if_asked()


@pytest.mark.parametrize("what", ["extract", "retouch", "reproject", "body"])
def test_work_is_stopped_where_it_is_and_asks_many_times_a_second(model, what):
    photo = F.interpolate(astronaut().float() / 255, scale_factor=3, mode="bicubic").clamp(0, 1)  # 2.4 megapixels
    after = retouched_mouth(astronaut())
    shoulders = Sliders((Amount(operation="body_shape_thin_shoulders", percent=60.0),))
    work = {
        "extract": lambda: model.extract(Exemplar(astronaut(), after)),
        "retouch": lambda: model.retouch(hopper(), operation),
        "reproject": lambda: reproject(photo, push(photo, centre=(678, 456), radius=84, shift=(15.0, 9.0))),
        "body": lambda: MirrorPPR.bundled().retouch(photo, shoulders),
    }
    operation = model.extract(Exemplar(astronaut(), after)) if what == "retouch" else None
    longest, *_ = gaps(work[what])
    assert longest.seconds < 0.5, f"{longest.after} -> {longest.before}"
    with stoppable(stop), pytest.raises(Enough):
        work[what]()


def test_a_stopped_extraction_leaves_the_model_as_it_was(model):
    pair, calls = Exemplar(astronaut(), retouched_mouth(astronaut())), []

    def later() -> None:
        calls.append(1)
        if len(calls) == 50:
            raise Enough

    with stoppable(later), pytest.raises(Enough):
        model.extract(pair)
    assert torch.equal(model.extract(pair).motion, model.extract(pair).motion)


def test_results_do_not_depend_on_the_number_of_threads(model, threads):
    pair = Exemplar(astronaut(), retouched_mouth(astronaut()))
    operation = model.extract(pair)
    result = model.retouch(hopper(), operation)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    alone = model.extract(pair)
    assert torch.equal(operation.motion, alone.motion) and torch.equal(operation.tokens, alone.tokens)
    again = model.retouch(hopper(), alone)
    assert torch.equal(result.field.dense(), again.field.dense()) and torch.equal(result.image, again.image)


def test_one_thread_gives_the_threads_back_whatever_happens(threads):
    @one_thread()
    def fail() -> None:
        assert torch.get_num_threads() == 1
        raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert torch.get_num_threads() == threads
