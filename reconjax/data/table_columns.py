"""Columns of tables as arrays; what is wrong with one is named by its row."""

from typing import Any

import numpy as np


def column(table: Any, name: str) -> np.ndarray:
    """A column as an array; missing numbers are NaN, missing texts None."""
    arrow = table.select_columns([name]).with_format("arrow")[:].column(name)
    kind = type(table.features[name]).__name__
    if kind in ("Value", "ClassLabel"):
        values = arrow.to_numpy()
        return values if values.dtype.kind != "O" else np.array(arrow.to_pylist(), object)
    listed = arrow.to_pylist()
    try:
        return np.array(listed)
    except ValueError:
        raise ValueError(f"{name} holds lists of several lengths: all must have one") from None


def finite_column(table: Any, name: str, data: str) -> np.ndarray:
    """A column of inputs: (N,) float64 of numbers, or an array of those of lists.

    Args:
      table: of `datasets`.
      name: of the column.
      data: what messages call the table.

    Raises:
      ValueError: one line that names the first row, from 0 on, without a finite number.
    """
    values = column(table, name)
    if values.ndim == 1:
        values = np.array([np.nan if v is None else v for v in values.tolist()], np.float64)
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        rows = np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1))
        raise ValueError(
            f"{data}: column {name!r} holds no finite number in row {rows[0]}"
            + (f", nor in {len(rows) - 1} others" if len(rows) > 1 else "")
            + ": inputs must be complete"
        )
    return values


def check_numbers(table: Any, name: str, data: str, needed: bool = False) -> None:
    """Raises ValueError for a column of texts most of which are numbers, naming the row of one.

    Args:
      table: of `datasets`.
      name: of the column.
      data: what messages call the table.
      needed: whether the column must hold numbers alone.
    """
    values = column(table, name)
    if values.dtype.kind not in "OUS":
        return
    wrong = [row for row, text in enumerate(values.tolist()) if not _is_number(text)]
    if wrong and (needed or len(wrong) < len(values) / 2):
        text = str(values[wrong[0]])
        raise ValueError(
            f"{data}: column {name!r} holds {text[:40]!r} in row {wrong[0]}: a number is needed"
            + (f" ({len(wrong)} of {len(values)} rows are none)" if len(wrong) > 1 else "")
        )


def _is_number(text: Any) -> bool:
    if text is None:
        return True
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True
