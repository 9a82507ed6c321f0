import runpy
from pathlib import Path

import pytest

from automl_cli.table import Kind, read_table

SAMPLES = Path(__file__).parent.parent / "sample_data"
TABLES = {
    "breast_cancer": ("diagnosis", 569, Kind.BOOLEAN),
    "wine": ("cultivar", 178, Kind.CATEGORY),
    "diabetes": ("progression", 442, Kind.NUMERIC),
    "churn": ("churned", 2500, Kind.BOOLEAN),
}


def test_the_script_makes_the_committed_churn_table(tmp_path):
    script = runpy.run_path(str(SAMPLES / "make_sample_data.py"))
    script["main"](tmp_path)
    # The invented table must come back byte for byte; scikit-learn may print its own numbers in another way one day.
    assert (tmp_path / "churn.csv").read_bytes() == (SAMPLES / "churn.csv").read_bytes()
    assert {path.stem for path in tmp_path.glob("*.csv")} == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_sample_tables_are_small_and_read_as_documented(name):
    target, n_rows, kind = TABLES[name]
    path = SAMPLES / f"{name}.csv"
    assert path.stat().st_size < 400_000
    table = read_table(path, target=target)
    assert (table.n_rows, table.schema.column(target).kind) == (n_rows, kind)


def test_churn_holds_every_sort_of_mess():
    table = read_table(SAMPLES / "churn.csv", target="churned")
    kinds = {column.name: column.kind for column in table.schema.columns}
    assert kinds["customer_id"] is Kind.ID
    assert kinds["joined"] is kinds["last_contact"] is Kind.DATETIME
    assert kinds["last_note"] is Kind.TEXT
    assert kinds["currency"] is Kind.CONSTANT
    assert kinds["autopay"] is Kind.BOOLEAN
    churned = table.texts("churned")
    assert churned.count("yes") / len(churned) == pytest.approx(0.15, abs=0.001)
    assert (table.numbers("cancellation_fee") > 0).tolist() == [label == "yes" for label in churned]
    assert (table.codes("region") < 0).any()
