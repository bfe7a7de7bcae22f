"""Cells of a table are trained once, by whichever process comes first."""

import argparse

import pytest

from experiments.cells import claimed, train_missing


def test_what_one_works_at_the_others_leave_alone(tmp_path):
    with claimed(tmp_path, "a") as first, claimed(tmp_path, "a") as second:
        assert (first, second) == (True, False)
        with claimed(tmp_path, "b") as other:
            assert other
    with claimed(tmp_path, "a", wait=True) as again:
        assert again
    assert list(tmp_path.iterdir()) == []


def test_a_claim_ends_with_the_work_also_where_it_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), claimed(tmp_path, "a"):
        1 / 0  # noqa: B018
    with claimed(tmp_path, "a") as mine:
        assert mine


def test_cells_are_trained_in_turn_and_those_of_others_are_passed_over(tmp_path, capsys):
    table = []
    options = argparse.Namespace(out=tmp_path, minutes=None)

    def train(cell):
        # Another process comes while this one is at work.
        train_missing("abc", options, lambda cell: cell not in table, table.append)
        table.append(cell)

    train_missing("a", options, lambda cell: cell not in table, train)
    assert table == ["b", "c", "a"]
    train_missing("abc", options, lambda cell: cell not in table, train)
    assert table == ["b", "c", "a"]
    options.minutes = 0
    train_missing("abcd", options, lambda cell: cell not in table, train)
    assert "0 of 4 cells are done with" in capsys.readouterr().err


def test_what_cannot_be_trained_is_a_line(tmp_path, capsys):
    def train(cell):
        raise ValueError(f"{cell}: has no test split")

    options = argparse.Namespace(out=tmp_path, minutes=None)
    with pytest.raises(SystemExit):
        train_missing("a", options, lambda cell: True, train)
    assert "a: has no test split" in capsys.readouterr().err
