"""What is shown of an event gives no command to the terminal."""

from rich.text import Text

from eventrouter.cli.terminal import harmless, terminal


def test_a_text_is_one_line_without_commands():
    assert ["plain “text” é😀", "a\N{REPLACEMENT CHARACTER}[2Jb", "a" + "\N{REPLACEMENT CHARACTER}" * 4] == [
        harmless(text) for text in ("plain “text” é😀", "a\x1b[2Jb", "a\n\x9b\u202e\x07")
    ]


def test_all_that_is_printed_is_harmless_in_its_lines_and_keeps_its_styles(capsys):
    console = terminal()
    console.print(Text.assemble(("\x1b]0;x\x07", "bold"), " and\n[red]\x9b2J"))
    console.print("as it \x1b[2Jis")
    out = capsys.readouterr().out
    assert (
        "\N{REPLACEMENT CHARACTER}]0;x and\n[red]\N{REPLACEMENT CHARACTER}2J\nas it \N{REPLACEMENT CHARACTER}[2Jis\n"
        == out
    )
