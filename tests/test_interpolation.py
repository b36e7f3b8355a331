import pytest

from eventrouter.interpolation import MAX_FILLED, interpolate

ENVIRON = {"NAME": "value", "EMPTY": "", "DOLLAR": "${NAME}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("nothing", "nothing"),
        ("${NAME}", "value"),
        ("a ${NAME} b ${NAME}", "a value b value"),
        ("${EMPTY}", ""),
        ("${EMPTY:-default}", "default"),
        ("${GONE:-default}", "default"),
        ("${GONE:-}", ""),
        ("${GONE:-http://a:b/?c=d}", "http://a:b/?c=d"),
        ("${NAME:-default}", "value"),
        ("${NAME:?say so}", "value"),
        ("$$", "$"),
        ("$${NAME}", "${NAME}"),
        ("$NAME $5 $", "$NAME $5 $"),
        ("${DOLLAR}", "${NAME}"),
    ],
)
def test_variables_are_filled_in_once(text, filled):
    result = interpolate(text, ENVIRON)
    assert (result.text, result.faults) == (filled, [])


@pytest.mark.parametrize(
    ("text", "offset", "message", "hint"),
    [
        ("a ${GONE}", 2, "the variable GONE is not set", "export GONE=…, or give a default: ${GONE:-default}"),
        ("${GONE:?ask the team}", 0, "the variable GONE is not set: ask the team", "export GONE=…"),
        ("${EMPTY:?ask the team}", 0, "the variable EMPTY is not set: ask the team", "export EMPTY=…"),
        (
            "${NAMES}",
            0,
            "the variable NAMES is not set",
            "did you mean NAME? Else export NAMES=…, or give a default: ${NAMES:-default}",
        ),
        *(
            (
                text,
                0,
                "`${` does not begin a variable",
                "write ${NAME}, ${NAME:-default} or ${NAME:?message}; $$ for a dollar sign",
            )
            for text in ("${", "${}", "${1A}", "${A B}", "${A:=b}")
        ),
    ],
)
def test_what_cannot_be_filled_in_is_told(text, offset, message, hint):
    assert interpolate(text, ENVIRON).faults == [(offset, message, hint)]


def test_all_faults_of_a_text_are_told():
    assert [fault[0] for fault in interpolate("${A} ${B} ${", {}).faults] == [0, 5, 10]


def test_what_came_from_the_environment_is_known_and_defaults_are_not():
    assert interpolate("${NAME} ${GONE:-default}", ENVIRON).values == ["value"]


def test_places_are_found_again():
    result = interpolate("ab ${NAME} cd $$ e", ENVIRON)
    assert result.text == "ab value cd $ e"
    found = {part: result.written(result.text.index(part)) for part in ("ab", "value", "lue", "cd", "$", " e")}
    assert found == {"ab": 0, "value": 3, "lue": 3, "cd": 11, "$": 14, " e": 16}


def test_a_value_that_is_no_text_is_told():
    found = interpolate("a ${BYTES:-default}", {"BYTES": "\udcff"})
    assert (found.text, found.values) == ("a ", [])
    assert found.faults == [(2, "the value of the variable BYTES is not UTF-8", "set BYTES to text in UTF-8")]


def test_a_variable_that_is_repeated_makes_no_endless_text():
    found = interpolate("${LONG}" * 10_000, {"LONG": "x" * 100_000})
    assert MAX_FILLED < len(found.text) < MAX_FILLED + 2 * 100_000
