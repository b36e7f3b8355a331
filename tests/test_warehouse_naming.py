"""Names of events and properties become names of tables and columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.builtin.warehouse.naming import (
    MAX_NAME,
    RESERVED_WORDS,
    column_name,
    part,
    shorten,
    snake_case,
    table_name,
)

OURS = frozenset({"users", "events", "tracks", "pages"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("camelCase123Key", "camel_case123_key"),
        ("CamelCase123Key", "camel_case123_key"),
        ("UTMSource", "utm_source"),
        ("Order Completed", "order_completed"),
        ("omega v2", "omega_v2"),
        ("mega&", "mega"),
        ("ome$ga", "ome_ga"),
        ("ome_ ga", "ome_ga"),
        ("9mega________-________90", "9mega_90"),
        ("path to $1,00,000", "path_to_1_00_000"),
        ("__private__", "private"),
        ("HTTPServer2Go", "http_server2_go"),
        ("a.b.c", "a_b_c"),
        ('"; DROP TABLE users; --', "drop_table_users"),
    ],
)
def test_ascii_names_follow_segments_rules(name: str, expected: str) -> None:
    assert expected == snake_case(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Größe (cm)", "größe_cm"),
        ("Cízǔ", "cízǔ"),
        ("注文完了", "注文完了"),
        ("हिन्दी शब्द", "हिन्दी_शब्द"),
        ("Заказ Оформлен", "заказ_оформлен"),
        ("ＦＵＬＬ Width", "full_width"),
        ("e\u0301t\u00e9", "été"),
    ],
)
def test_letters_of_every_script_are_kept(name: str, expected: str) -> None:
    assert expected == snake_case(name)


def test_both_ways_to_write_an_accent_are_one_name() -> None:
    assert snake_case("caf\u00e9") == snake_case("cafe\u0301")


@pytest.mark.parametrize("name", ["", "!!!", "🎉", "___", "\0"])
def test_a_name_without_letters_gets_a_name_of_its_own(name: str) -> None:
    assert "" == snake_case(name)
    assert part(name).startswith("unnamed_")
    assert part(name) == part(name)
    assert part(name) != part(name + "?")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("total", "total"),
        ("9mega", "_9mega"),
        ("order", "_order"),
        ("ctid", "_ctid"),
        ("id", "_id"),
        ("user_id", "user_id"),
    ],
)
def test_what_cannot_be_a_column_gets_an_underscore(path: str, expected: str) -> None:
    assert expected == column_name(path, frozenset({"id"}))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("Order Completed", "order_completed"),
        ("orderCompleted", "order_completed"),
        ("Users", "_users"),
        ("_users", "_users"),
        ("events", "_events"),
        ("Order", "_order"),
        ("2FA enabled", "_2_fa_enabled"),
        ("sqlite_master", "_sqlite_master"),
        ("PG class", "_pg_class"),
        ("eventrouter tables", "_eventrouter_tables"),
    ],
)
def test_an_events_table_is_never_one_of_ours(event: str, expected: str) -> None:
    assert expected == table_name(event, OURS)


def test_a_long_name_is_cut_and_stays_different_from_its_neighbours() -> None:
    one, other = "a" * 100, "a" * 101
    assert MAX_NAME == len(shorten(one))
    assert shorten(one) != shorten(other)
    assert "a" * 63 == shorten("a" * 63)
    assert len(table_name("x" * 5000, OURS)) == MAX_NAME


def test_a_long_name_is_cut_between_characters() -> None:
    assert len(shorten("注" * 40).encode()) <= MAX_NAME


@given(st.text(max_size=80))
def test_every_name_becomes_one_that_both_databases_take(name: str) -> None:
    for made in (column_name(part(name), OURS), table_name(name, OURS)):
        assert 0 < len(made.encode("utf-8", "surrogatepass")) <= MAX_NAME
        assert made not in RESERVED_WORDS | OURS
        assert not made[0].isdigit()
        assert not set(made) & set("\"'\0%;?\ud800")


@given(st.text(max_size=40))
def test_snake_case_of_snake_case_is_itself(name: str) -> None:
    once = snake_case(name)
    assert once == snake_case(once)
