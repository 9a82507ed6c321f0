"""What every worker needs: imported once, by the server that they are forked from, while the table is being read."""

from automl_cli import evaluate, importance
from automl_cli.lean import import_lean

__all__ = ["evaluate", "importance"]

for _library in ("lightgbm", "xgboost"):
    import_lean(_library)
