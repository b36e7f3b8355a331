"""How a dead letter is shown."""

from __future__ import annotations

from eventrouter.cli.dead_letter import print_letter

ROW = {
    "source": "web",
    "message_id": "m1",
    "destination": "crm",
    "route": "orders",
    "class": "permanent",
    "reason": "HTTP 422",
    "attempts": 2,
    "first_at": "2026-11-24T17:00:00.000Z",
    "last_at": "2026-11-24T17:01:00.000Z",
    "status": 422,
    "response": "no [thanks]\n\x1b[31mnever",
    "traceback": "",
    "payload": '{"order":{"id":"ü"}}',
    "event_type": "track",
    "event_name": "Order Completed",
    "rules": "abc",
    "replayed_at": None,
}


def test_all_that_is_kept_is_shown_and_nothing_of_it_moves_the_terminal(capsys):
    print_letter(ROW, "dead")
    assert [
        "track Order Completed m1 of web to crm",
        "  state     dead",
        "  class     permanent",
        "  reason    HTTP 422",
        "  attempts  2, from 2026-11-24T17:00:00.000Z to 2026-11-24T17:01:00.000Z",
        "  status    HTTP 422",
        "  route     orders",
        "  rules     abc",
        "  answer",
        "    no [thanks]",
        "     [31mnever",
        "  payload",
        "    {",
        '      "order": {',
        '        "id": "ü"',
        "      }",
        "    }",
        "",
    ] == capsys.readouterr().out.splitlines()


def test_what_is_not_there_is_left_out(capsys):
    more = {"attempts": 0, "status": None, "response": "", "payload": None, "replayed_at": "2026-11-24T18:00:00.000Z"}
    print_letter(ROW | more, "discarded")
    lines = capsys.readouterr().out.splitlines()
    assert "  state     discarded at 2026-11-24T18:00:00.000Z" in lines
    assert "  attempts  none" in lines
    assert "    was not stored: it is made of the event when it is sent again" in lines
    assert "answer" not in str(lines)


def test_a_payload_that_is_no_json_is_shown_as_it_is(capsys):
    print_letter(ROW | {"payload": "{"}, "dead")
    assert "    {" in capsys.readouterr().out.splitlines()
