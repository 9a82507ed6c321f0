#!/bin/sh
# From a table to predictions, each command shown before it runs. Usage: demo.sh VENV
set -eu
venv=$1
PATH="$venv/bin:$PATH"
out=build/demo
seconds=${DEMO_TIME:-60s}

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

mkdir -p "$out"
"$venv/bin/python" scripts/hold_out.py sample_data/churn.csv "$out/train.csv" "$out/new.csv"

show automl profile "$out/train.csv" --target churned
echo
echo "One column gives the answer away: it is filled in after a customer has left. It is ignored."
show automl fit "$out/train.csv" --target churned --ignore cancellation_fee --time "$seconds" --out "$out/churn.automl"
show automl predict "$out/churn.automl" "$out/new.csv" --proba --out "$out/predictions.csv"
show head -n 4 "$out/predictions.csv"
show automl evaluate "$out/churn.automl" "$out/new.csv"

cat <<END

The model is $out/churn.automl, its answers for rows it had not seen are $out/predictions.csv.
The installation weighs $(du -sh "$venv" | cut -f1), in $venv.

Next, with a table of your own:
  . $venv/bin/activate
  automl profile your.csv --target your_column
  automl fit your.csv --target your_column --time 5m
END
