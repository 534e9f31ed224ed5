"""Named operations by amount: their names, their lines, and what is refused."""

import pytest

from mirrorppr_core.operations.llw_table import OPERATIONS as LLW
from mirrorppr_core.operations.professional_table import OPERATIONS as PROFESSIONAL
from mirrorppr_core.operations.sliders import NAMES, SLIDERS, Amount, Sliders


def test_there_is_one_slider_for_each_of_the_8_and_27_operations():
    assert len(SLIDERS) == len(set(SLIDERS)) == 8 + 27
    assert [NAMES[name][0] for name in SLIDERS] == [*LLW, *PROFESSIONAL]


def test_paired_operations_have_a_name_for_each_side():
    paired = [name for name, one in PROFESSIONAL.items() if one.paired]
    assert len(NAMES) == len(SLIDERS) + 2 * len(paired)
    assert NAMES["mandible_left"] == ("mandible_left+mandible_right", "left")
    assert NAMES["eye_distance"][0] in LLW and NAMES["eye_distance_both"][0] in PROFESSIONAL


def test_lines_come_back():
    text = "eye_resize = 30\nmouth_smile_left = -20.5\nmandible_both = 15"
    assert Sliders.from_text(text).to_text() == text
    assert Sliders.from_text(f"# a remark\n\n {text} # another\n") == Sliders.from_text(text)
    assert Sliders.from_text("nose_alar = 0\n") == Sliders(()) and Sliders(()).is_identity
    assert Sliders.from_text("nose_alar=25%").amounts == (Amount(operation="nose_alar", percent=25.0),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eye_resize", "line 1 is 'eye_resize': write NAME = PER CENT"),
        ("\neye_resize = much", "line 2 is 'eye_resize = much'"),
        ("eye_resize = 101", "line 1 sets eye_resize to 101: sliders go from -100 to 100"),
        ("eye_resize = nan", "line 1 sets eye_resize to nan: sliders go from -100 to 100"),
        ("third_eye = 3", "line 1 names no slider .'third_eye'.: use names from eye_resize, eye_distance"),
        ("nose_alar = 3\nnose_alar = 4", "line 2 sets nose_alar a second time: keep one"),
        ("nose_alar_left = 3", "names no slider"),
    ],
)
def test_lines_that_say_nothing_are_refused_by_number(text, message):
    with pytest.raises(ValueError, match=message):
        Sliders.from_text(text)
