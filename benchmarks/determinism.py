"""Is a counted run the same to the byte? Repeated, with one worker and two, and killed and resumed.

usage: python -m benchmarks.determinism [CSV TARGET] [--trials 20] [--seed 1]

Without a table it is sample_data/churn.csv without its leaking column. Prints the digest of each run's predictions.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
AUTOML = [sys.executable, "-m", "automl_cli"]


def fit(args: argparse.Namespace, folder: Path, *options: str) -> list[str]:
    """Return the command of one run."""
    return [
        *AUTOML, "fit", str(args.csv), "--target", args.target, "--trials", str(args.trials), "--seed", str(args.seed),
        "--out", str(folder / "model.automl"), "--run-dir", str(folder / "run"), "--quiet", *args.more, *options,
    ]  # fmt: skip


def digest(args: argparse.Namespace, folder: Path) -> str:
    """Predict with the model and return the digest of the file."""
    out = folder / "p.csv"
    subprocess.run([*AUTOML, "predict", str(folder / "model.automl"), str(args.csv), "-o", str(out), "-q"], check=True)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def killed(args: argparse.Namespace, folder: Path) -> None:
    """Kill a run after a third of its trials, and resume it."""
    process = subprocess.Popen(fit(args, folder))
    journal = folder / "run" / "journal.jsonl"
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= args.trials // 3):
        if process.poll() is not None:
            raise SystemExit("the run ended before it could be killed")
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(fit(args, folder, "--resume"), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", nargs="?", type=Path)
    parser.add_argument("target", nargs="?")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.more = []
    if args.csv is None:
        args.csv, args.target = ROOT / "sample_data" / "churn.csv", "churned"
        args.more = ["--ignore", "cancellation_fee"]
    digests = {}
    runs = {
        "first": (),
        "repeated": (),
        "one worker": ("--workers", "1"),
        "two workers": ("--workers", "2"),
        "killed and resumed": None,
    }
    for name, options in runs.items():
        with tempfile.TemporaryDirectory() as scratch:
            begin = time.perf_counter()
            if options is None:
                killed(args, Path(scratch))
            else:
                subprocess.run(fit(args, Path(scratch), *options), check=True)
            digests[name] = digest(args, Path(scratch))
            print(f"{name:20} {digests[name][:16]} {time.perf_counter() - begin:6.1f} s", flush=True)
    same = len(set(digests.values())) == 1
    print("identical" if same else "NOT identical")
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
