"""What pytest does not collect where an extra is not installed: it imports every module for its doctests."""

import importlib.util

collect_ignore = []
if importlib.util.find_spec("torch") is None:
    collect_ignore += ["automl_cli/neural/modules.py", "automl_cli/neural/training.py"]
