"""Write the sample tables beside this script: three that ship with scikit-learn, and an invented business table.

    python sample_data/make_sample_data.py [FOLDER]

The same seed gives the same bytes. docs/data.md says where each table comes from.
"""

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

SEED = 20240131
N_CUSTOMERS = 2500


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV with line feeds, whatever the system."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def export(folder: Path, name: str, target: str) -> None:
    """Export one of scikit-learn's tables; class labels become their names."""
    from sklearn import datasets  # noqa: PLC0415

    table = {
        "breast_cancer": datasets.load_breast_cancer,
        "wine": datasets.load_wine,
        "diabetes": lambda: datasets.load_diabetes(scaled=False),
    }[name]()
    names = [feature.replace(" ", "_").replace("/", "_") for feature in table.feature_names]
    labels = getattr(table, "target_names", None)
    rows = (
        [*(f"{value:g}" for value in features), labels[int(y)] if labels is not None else f"{y:g}"]
        for features, y in zip(table.data, table.target, strict=True)
    )
    write(folder / f"{name}.csv", [*names, target], rows)


REGIONS = ("North", "South", "East", "West", "Overseas", "Isle of Man")
PLANS = ("basic", "standard", "premium", "legacy-2009", "staff")
CHANNELS = ("web", "phone", "shop", "partner", "referral")
HAPPY = ("Works fine, no complaints", "Very friendly support", "Good value for the money, would recommend")
ANGRY = (
    "Too expensive, looking at other offers",
    "Outages every week and nobody answers the phone",
    "I was charged twice and want my money back",
)
NEUTRAL = ("Asked about the invoice", "Moved to a new address", 'Wants the "family" option', "Called about roaming")
CLOSINGS = ("", " Please call back.", " See ticket {n}.", "\nSecond call this month.", " Thanks, {n}")


def churn_rows(rng: np.random.Generator) -> Iterable[Sequence[object]]:
    """Invent customers: those on monthly contracts with high charges and few months leave more often."""
    n = N_CUSTOMERS
    months = np.minimum(rng.gamma(1.6, 14, n).astype(int) + 1, 120)
    plan = rng.choice(len(PLANS), n, p=[0.45, 0.33, 0.19, 0.024, 0.006])
    region = rng.choice(len(REGIONS), n, p=[0.3, 0.25, 0.25, 0.18, 0.017, 0.003])
    channel = rng.choice(len(CHANNELS), n, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    monthly = np.round(rng.lognormal(3.2 + 0.35 * plan.clip(0, 2), 0.35), 2)
    calls = rng.negative_binomial(1, 0.45, n)
    paperless = rng.random(n) < 0.6
    autopay = rng.random(n) < 0.5
    usage = np.round(rng.lognormal(2.5, 1.1, n), 1)
    age = rng.integers(18, 90, n)
    score = (
        0.45 * calls + 0.022 * monthly - 0.055 * months - 0.9 * autopay + 0.5 * (channel == 1) + rng.normal(0, 0.9, n)
    )
    churned = score > np.quantile(score, 0.85)
    joined = np.datetime64("2024-01-31") - (months * 30.4 + rng.integers(0, 30, n)).astype("timedelta64[D]")
    last = np.datetime64("2024-01-31") - rng.integers(0, 60, n).astype("timedelta64[D]")
    for i in range(n):
        mood = ANGRY if rng.random() < (0.6 if churned[i] else 0.15) else (HAPPY if rng.random() < 0.4 else NEUTRAL)
        closing = str(rng.choice(CLOSINGS, p=[0.1, 0.1, 0.4, 0.1, 0.3])).format(n=rng.integers(1000, 9999))
        note = f"{rng.choice(mood)}. {rng.choice(NEUTRAL)}.{closing}"
        # Only who leaves pays it: known too late, the column gives the answer away.
        fee = round(float(monthly[i] * rng.uniform(1, 3)), 2) if churned[i] else 0
        yield (
            f"C{100000 + i * 7 + int(rng.integers(0, 7)):06d}",
            str(joined[i]),
            last[i].item().strftime("%d.%m.%Y"),
            "" if rng.random() < 0.06 else REGIONS[region[i]],
            PLANS[plan[i]],
            CHANNELS[channel[i]] if rng.random() > 0.12 else "NA",
            int(age[i]) if rng.random() > 0.04 else -999,
            int(months[i]),
            f"{monthly[i]:.2f}",
            f"{monthly[i] * months[i]:.2f}" if months[i] > 1 else "",
            usage[i],
            int(calls[i]),
            "yes" if paperless[i] else "no",
            "yes" if autopay[i] else "no",
            note if rng.random() > 0.3 else "",
            "EUR",
            fee,
            "yes" if churned[i] else "no",
        )


CHURN_HEADER = (
    "customer_id",
    "joined",
    "last_contact",
    "region",
    "plan",
    "channel",
    "age",
    "months",
    "monthly_charge",
    "total_charge",
    "usage_gb",
    "support_calls",
    "paperless",
    "autopay",
    "last_note",
    "currency",
    "cancellation_fee",
    "churned",
)


def main(folder: Path) -> None:
    """Write all tables into a folder."""
    export(folder, "breast_cancer", "diagnosis")
    export(folder, "wine", "cultivar")
    export(folder, "diabetes", "progression")
    write(folder / "churn.csv", CHURN_HEADER, churn_rows(np.random.default_rng(SEED)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
