import pytest

from varestorer_core.wording import shown


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain", "plain"),
        ("Größe 写真", "Größe 写真"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("\x9b31m", "\\x9b31m"),
        (7, "7"),
    ],
)
def test_what_a_terminal_could_act_on_is_escaped(text, wanted):
    assert shown(text) == wanted


def test_long_texts_are_cut():
    assert shown("x" * 200) == "x" * 200
    assert shown("x" * 201) == "x" * 200 + "..."
