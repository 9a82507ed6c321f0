import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from automl_cli.profile import profile
from automl_cli.table import Kind, read_table

SAMPLES = Path(__file__).parent.parent / "sample_data"
N = 400


@pytest.fixture
def make(tmp_path):
    def write(**columns):
        path = tmp_path / "data.csv"
        pyarrow.csv.write_csv(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
        return path

    return write


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def found(path, target=None, topic="leaks"):
    table = read_table(path, target=target)
    return [warning.message for warning in profile(table, target).warnings if warning.topic == topic]


def classes(rng, n=N):
    return np.where(rng.random(n) < 0.3, "yes", "no")


def test_statistics_are_those_of_the_column(make, rng):
    x = np.round(rng.exponential(size=N), 6)
    table = read_table(make(x=[None, *x[1:]], c=["b", *["a"] * (N - 1)]))
    of_x, of_c = profile(table).columns
    assert (of_x.minimum, of_x.maximum, of_x.distinct) == (x[1:].min(), x[1:].max(), len(set(x[1:])))
    assert of_x.mean == pytest.approx(x[1:].mean())
    assert of_x.skew == pytest.approx(((x[1:] - x[1:].mean()) ** 3).mean() / x[1:].std() ** 3)
    assert of_x.missing == pytest.approx(1 / N)
    assert dict(of_c.top) == {"a": 1 - 1 / N, "b": 1 / N}


def test_churn_leak_id_constant_and_sentinel_are_found():
    table = read_table(SAMPLES / "churn.csv", target="churned")
    warnings = profile(table, "churned").warnings
    by_topic = {topic: [w.message for w in warnings if w.topic == topic] for topic in {w.topic for w in warnings}}
    assert len(by_topic["leaks"]) == 1
    assert "cancellation_fee" in by_topic["leaks"][0]
    assert "customer_id" in by_topic["ids"][0]
    assert "currency" in by_topic["constant_columns"][0]
    assert any(n.topic == "sentinels" and "age" in n.message for n in table.notices)


@pytest.mark.parametrize(
    ("name", "target"), [("breast_cancer", "diagnosis"), ("wine", "cultivar"), ("diabetes", "progression")]
)
def test_honest_tables_have_no_leaks(name, target):
    assert found(SAMPLES / f"{name}.csv", target) == []


def test_the_option_against_a_leak_can_be_pasted(make, rng):
    y = classes(rng)
    path = make(**{"monthly fee": np.where(y == "yes", rng.uniform(5, 9, N), 0), "y": y})
    assert found(path, "y")[0].endswith("add --ignore 'monthly fee'")


def test_leaks_for_classes(make, rng):
    y = classes(rng)
    path = make(
        twin=np.where(y == "yes", "left", "stayed"),
        number=np.where(y == "yes", rng.uniform(5, 9, N), 0),
        gap=[None if label == "yes" else 1.5 * i for i, label in enumerate(y)],
        noise=rng.normal(size=N),
        strong=rng.normal(size=N) + 2 * (y == "yes"),
        y=y,
    )
    messages = found(path, "y")
    assert [sum(repr(name) in m for m in messages) for name in ("twin", "number", "gap", "noise", "strong")] == [
        1,
        1,
        1,
        0,
        0,
    ]
    assert "copy" in messages[0]


def test_leaks_for_regression(make, rng):
    y = rng.normal(size=N)
    group = rng.integers(0, 5, N)
    path = make(
        fahrenheit=1.8 * y + 32,
        cubed=y**3,
        close=y + rng.normal(size=N) * 0.1,
        other=rng.normal(size=N),
        group=[f"g{g}" for g in group],
        y=y,
    )
    messages = found(path, "y")
    assert [sum(repr(name) in m for m in messages) for name in ("fahrenheit", "cubed", "close", "other", "group")] == [
        1,
        1,
        0,
        0,
        0,
    ]


def test_a_column_of_distinct_values_is_no_copy_of_another(make, rng):
    path = make(a=rng.normal(size=N), b=[f"town {i}" for i in rng.permutation(N)], y=rng.normal(size=N))
    assert found(path, "y") == []
    assert found(path, "y", "duplicate_columns") == []


def test_copies_of_rows_and_columns(make, rng):
    x, c = rng.normal(size=N), rng.choice(list("abc"), N)
    path = make(
        x=[*x, *x[:20]],
        scaled=[*(3 * x - 1), *(3 * x[:20] - 1)],
        c=[*c, *c[:20]],
        renamed=[*map(str.upper, c), *map(str.upper, c[:20])],
        z=[*x[::-1], *x[::-1][:20]],
    )
    assert found(path, topic="duplicate_rows")[0].startswith("20 rows")
    twins = found(path, topic="duplicate_columns")
    assert len(twins) == 2
    assert any("'x' and 'scaled'" in m for m in twins)
    assert any("'c' and 'renamed'" in m for m in twins)


def test_one_row_that_is_there_twice_is_said_in_the_singular(make, rng):
    x, z = rng.normal(size=N), rng.normal(size=N)
    path = make(x=[*x, x[0]], z=[*z, z[0]])
    assert found(path, topic="duplicate_rows")[0].startswith("1 row repeats an earlier one")


def test_a_table_without_a_number(make, rng):
    c = rng.choice(list("abc"), N)
    path = make(c=c, d=rng.choice(list("xyz"), N), renamed=list(map(str.upper, c)))
    assert len(found(path, topic="duplicate_columns")) == 1


def test_imbalance(make, rng):
    messages = found(make(x=rng.normal(size=N), y=["rare"] * 4 + ["usual"] * (N - 4)), "y", "imbalance")
    assert "1.00%" in messages[0]
    assert "'rare'" in messages[0]


def test_ids_of_persons_with_several_rows_call_for_groups(make, rng):
    person, x = rng.integers(0, 120, N), rng.normal(size=N)
    path = make(
        patient_id=person,
        customerId=[f"K{p}" for p in person],
        late_id=[None, *person[1:]],
        visits=person,
        price_index=person,
        shop_id=rng.integers(0, 5, N),
        x=x,
    )
    messages = found(path, topic="repeated_ids")
    assert [m.split("--group-column ")[1] for m in messages] == ["patient_id", "customerId", "late_id"]
    assert found(make(patient_id=rng.permutation(N), x=x), topic="repeated_ids") == []


def test_dates_out_of_order(make, rng):
    start = np.datetime64("2020-01-01") + np.arange(N)
    end = start + rng.integers(1, 9, N)
    shuffled = start.copy()
    shuffled[[50, 60]] = shuffled[[60, 50]]
    end[100] = start[100] - 5
    messages = found(make(start=start, end=end, shuffled=shuffled), topic="dates_out_of_order")
    assert any("'shuffled'" in m and "goes back" in m for m in messages)
    assert any("'start' lies before 'end' but for 1 rows" in m for m in messages)
    assert found(make(start=start, x=rng.normal(size=N)), topic="time_order")


def test_json_is_strict_even_with_odd_numbers(make):
    table = read_table(
        make(big=[1e308, -1e308, 1e307], tiny=[1e-300, 2e-300, None], none=pa.nulls(3, pa.string()), c=["a", "b", None])
    )
    text = json.dumps(profile(table, "c").to_json(), allow_nan=False)
    assert [column["name"] for column in json.loads(text)["columns"]] == ["big", "tiny", "none", "c"]


@pytest.mark.alone
def test_a_hundred_thousand_rows_take_seconds(make, rng):
    columns = {f"x{i}": rng.normal(size=100_000).astype(np.float32) for i in range(20)}
    table = read_table(make(**columns, y=classes(rng, 100_000)), target="y")
    start = time.perf_counter()
    assert profile(table, "y").columns[0].kind is Kind.NUMERIC
    assert time.perf_counter() - start < 5
