"""CSV or Parquet to a table of columns, each with a kind and the reason for it.

Reading order: ``schema`` (the words), ``source`` (bytes), ``layout`` (separator, header), ``markers`` (missing cells),
``reading`` (cells), ``notation`` (numbers from texts), ``values`` (dates), ``facts`` (what may be asked of a column),
``kinds`` (the routes), ``columns`` (`Table`), ``fitting`` (`read_table`), ``joining`` (`read_tables`), ``blocks``
(cells piece by piece), ``aligning`` (`read_with_schema`, `align`).
"""

from automl_cli.table.aligning import Aligned, Block, align, read_with_schema
from automl_cli.table.columns import Table
from automl_cli.table.fitting import column_names, read_table
from automl_cli.table.joining import read_tables, under
from automl_cli.table.kinds import is_id_name
from automl_cli.table.schema import CODED, UNUSED, Column, Kind, Notice, Remark, Schema, added_up, gather
from automl_cli.table.writing import csv_writer, write_csv

__all__ = [
    "CODED",
    "UNUSED",
    "Aligned",
    "Block",
    "Column",
    "Kind",
    "Notice",
    "Remark",
    "Schema",
    "Table",
    "added_up",
    "align",
    "column_names",
    "csv_writer",
    "gather",
    "is_id_name",
    "read_table",
    "read_tables",
    "read_with_schema",
    "under",
    "write_csv",
]
