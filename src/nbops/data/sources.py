"""Data that has to be opened before it can be read: Parquet and CSV files, queries, Arrow streams.

Each is given back as something that `frames` reads in place; nothing goes through pandas. SQLAlchemy is not needed
here: an engine is whatever has ``connect()``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbops.core.errors import InvalidInput, MissingDependency, NotFound, did_you_mean
from nbops.data.delta import is_delta, read_delta

ENDINGS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv"}


def is_path(data: Any) -> bool:
    """Tell whether `data` is a path: a `pathlib.Path`, or text that ends like Parquet or CSV, or is a Delta table."""
    if isinstance(data, str):
        return Path(data).suffix.lower() in ENDINGS or is_delta(data)
    return isinstance(data, os.PathLike)


def is_query(data: Any) -> bool:
    """Tell whether `data` is a pair of a database engine (with ``connect()``) and the text of a query."""
    return isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], str) and hasattr(data[0], "connect")


def form_of(path: Any) -> str:
    """Return ``parquet``, ``csv`` or ``delta``.

    Raises
    ------
    InvalidInput
        A file of another sort, or a folder.
    NotFound
        No such file.
    """
    file = Path(path)
    if is_delta(path):
        return "delta"
    form = ENDINGS.get(file.suffix.lower(), "")
    if file.is_dir():
        raise InvalidInput(f"'{path}' is a folder", hint="Pass one file, or read the folder with polars first.")
    if not form:
        raise InvalidInput(f"cannot read '{path}' as data", hint=f"Pass a file that ends in {', '.join(ENDINGS)}.")
    if not file.exists():
        beside = [one.name for one in file.parent.glob("*") if one.suffix.lower() in ENDINGS]
        raise NotFound(
            f"no file '{path}'", hint=did_you_mean(file.name, beside) or f"Look in {file.absolute().parent}."
        )
    return form


def read_file(path: Any) -> Any:
    """Return the Arrow table of a Parquet or CSV file, or of a Delta Lake table.

    In a CSV file, cells that are empty or NA, NULL, NaN … without quotes are missing.
    """
    form = form_of(path)
    if form == "delta":
        return read_delta(path)
    if form == "parquet":
        source = ParquetSource(path)
        try:
            with source.errors():
                return source.opened.read()
        finally:
            source.close()
    pa = _arrow()
    from pyarrow import csv

    try:
        return csv.read_csv(
            os.fspath(path),
            parse_options=csv.ParseOptions(delimiter="\t" if Path(path).suffix.lower() == ".tsv" else ","),
            convert_options=csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return pa.table({})
        line = str(error).partition("\n")[0][:200]
        raise InvalidInput(
            f"cannot read '{path}' as CSV: {line}", hint="Mend the line, or read the file yourself."
        ) from None


def read_stream(data: Any) -> Any:
    """Return the Arrow table, or the chunked array, of an object with ``__arrow_c_stream__``."""
    pa = _arrow()
    try:
        return pa.table(data)
    except (pa.ArrowInvalid, TypeError, ValueError):  # a stream of single values
        return pa.chunked_array(data)


def run_query(pair: tuple[Any, str]) -> dict[str, list[Any]]:
    """Return the columns of a query's result, by name.

    Parameters
    ----------
    pair : (engine, str)
        A SQLAlchemy engine, or whatever gives by ``connect()`` connections with ``exec_driver_sql``; and the query.

    Raises
    ------
    InvalidInput
        Two columns of the result have one name.
    """
    engine, text = pair
    with engine.connect() as connection:
        result = connection.exec_driver_sql(text)
        names = list(map(str, result.keys()))
        rows = result.fetchall()
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"column name used twice: '{twice}'", hint="Rename it in the query: select a.x as ax.")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


class ParquetSource:
    """A Parquet file that is read one column at a time, in pieces.

    Raises
    ------
    InvalidInput
        No Parquet file, or one that is cut off; a column name used twice.
    """

    def __init__(self, path: Any) -> None:
        self.path = path
        _arrow()
        import pyarrow.parquet as pq

        with self.errors():
            # not buffered ahead, which would keep the whole column
            self.opened = pq.ParquetFile(os.fspath(path), pre_buffer=False)
            self.names: list[str] = list(self.opened.schema_arrow.names)
        self.rows: int = self.opened.metadata.num_rows
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise InvalidInput(f"column name used twice: {', '.join(map(repr, twice[:5]))}", hint="Rename the columns.")

    def pieces(self, name: str, *, rows: int) -> Iterator[Any]:
        """Yield the Arrow arrays of one column, of at most so many rows each."""
        with self.errors():
            for batch in self.opened.iter_batches(batch_size=rows, columns=[name], use_threads=False):
                yield batch.column(0)

    def errors(self) -> _Errors:
        """Return a context that turns what pyarrow says into one line about this file."""
        return _Errors(self.path)

    def close(self) -> None:
        """Close the file."""
        self.opened.close()


class _Errors:
    def __init__(self, path: Any) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            return
        pa = _arrow()
        if isinstance(error, pa.ArrowException | OSError):
            line = str(error).partition("\n")[0][:200]
            raise InvalidInput(
                f"cannot read '{self._path}' as Parquet: {line}",
                hint="The file may be cut off or damaged: write or fetch it again.",
            ) from None


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingDependency.of("pyarrow", "pandas") from None
    return pyarrow
