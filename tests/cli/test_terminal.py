"""What stands in the terminal."""

from __future__ import annotations

from winnow.cli.terminal import TerminalProgress, shown

LINE = {
    "epoch": 3,
    "phase": "warm up",
    "learning_rate": 0.05,
    "loss": 1.5,
    "terms": {"label": 1.0, "entropy": 0.5},
    "given_label_agreement": 0.814,
    "validation_agreement": None,
    "test_accuracy": 0.9,
    "seconds": 12.34,
    "log": {"doubted": 17.0},
}


def test_verbose_leaves_a_line_for_each_epoch(capsys):
    TerminalProgress(quiet=False, verbose=True).epoch(LINE)
    TerminalProgress(quiet=False, verbose=False).epoch(LINE)

    assert capsys.readouterr().err == (
        "epoch 3  warm up  loss 1.5000  label 1.0000  entropy 0.5000  given 81.4 %  test 90.0 %  doubted 17  "
        "rate 0.05  12.3 s\n"
    )


def test_names_cannot_move_the_cursor_or_begin_a_line(capsys):
    assert shown("a\x1b[2Jb\nc\u202ed") == "a\\x1b[2Jb\\nc\\u202ed"
    assert shown("40\u00a0% of Ω and 猫") == "40 % of Ω and 猫"
    TerminalProgress().understood("Note", "x.png\nerror: forged")
    TerminalProgress().warning("\x1b]0;title\x07")

    assert capsys.readouterr().err == "Note     x.png\\nerror: forged\nwarning: \\x1b]0;title\\x07\n"
