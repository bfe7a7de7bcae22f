"""Images that lie in a column of a table."""

from collections.abc import Sequence
from typing import Any

from reconjax.data.images import Encoded


class TableFiles:
    """The images of a column, of both splits one after the other, for `Images`."""

    def __init__(self, name: str, tables: Sequence[Any], column: str) -> None:
        """The column of all splits."""
        import datasets

        self.name = name
        self._column = column
        self._tables = [
            table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
            for table in tables
        ]
        self._first = len(tables[0])

    def __len__(self) -> int:
        """The number of images."""
        return sum(map(len, self._tables))

    def read(self, numbers: Sequence[int]) -> list[Encoded]:
        """The bytes of some, or the paths that the table has in their place."""
        split = [int(number >= self._first) for number in numbers]
        rows: dict[int, Any] = {}
        for place, table in enumerate(self._tables):
            wanted = [n for n, s in zip(numbers, split, strict=True) if s == place]
            if wanted:
                stored = table[[n - place * self._first for n in wanted]][self._column]
                rows.update(zip(wanted, stored, strict=True))
        return [_encoded(rows[number]) for number in numbers]

    def title(self, number: int) -> str:
        """The row, from 0 on."""
        if number < self._first:
            return f"row {number} of the training split"
        return f"row {number - self._first} of the test split"


class TableMasks(TableFiles):
    """The masks of a column; a row may have none."""

    def __init__(self, name: str, tables: Sequence[Any], column: str) -> None:
        """The column of all splits."""
        super().__init__(name, tables, column)
        self._what = f"{name}: {column}"

    def read(self, numbers: Sequence[int]) -> list[Any]:
        """As for images; None where a row is empty."""
        return [one or None for one in super().read(numbers)]

    def title(self, number: int) -> str:
        """The column and the row."""
        return f"{self._what} of {super().title(number)}"


def _encoded(row: Any) -> Encoded:
    if not row:
        return b""
    stored: Encoded | None = row["bytes"]
    return stored if stored is not None else str(row["path"])
