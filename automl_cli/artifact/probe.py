"""The child of `check`: load every model of a file and let it predict; whatever goes wrong goes wrong here."""

import resource
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from automl_cli.artifact.check import MARK
from automl_cli.artifact.read import Artifact, open_artifact
from automl_cli.errors import AutomlError, BadArtifact, SchemaMismatch
from automl_cli.features.frame import Frame, FrameSchema


def main(path: Path, digest: str, seconds: int | None = None) -> int:
    """Load and probe a file; return an exit code and say on stdout what is wrong.

    The one process whose purpose is to be harmed: it catches everything that can be caught.

    Parameters
    ----------
    seconds : int or None
        Of a processor, after which the process is ended by SIGXCPU.
    """
    # A crash is expected here; nobody wants its memory on disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if seconds is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = seconds if hard == resource.RLIM_INFINITY else min(seconds, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    try:
        with open_artifact(path) as artifact:
            if artifact.manifest.digest != digest:
                raise BadArtifact(f"{path} was replaced while it was read", hint="try again")
            probe(artifact)
    except SchemaMismatch as error:
        _say(f"{path} is damaged: its parts do not fit together ({error.problem})")
        return BadArtifact.exit_code
    except AutomlError as error:
        _say(error.problem)
        return error.exit_code
    except Exception as error:
        _say(f"{path} is damaged: its models cannot be loaded ({type(error).__name__}: {error})")
        return BadArtifact.exit_code
    return 0


def probe(artifact: Artifact) -> None:
    """Predict rows of nothing, of zeros and of first categories with every model.

    Raises
    ------
    BadArtifact
        A model is malformed or answers in the wrong shape.
    """
    artifact.predict_unchecked(_rows(artifact.manifest.frame_schema), threads=1)


def _rows(schema: FrameSchema) -> Frame:
    n_rows = 3
    numbers = np.zeros((n_rows, len(schema.numeric)))
    days = np.zeros((n_rows, len(schema.datetime)))
    codes = np.zeros((n_rows, len(schema.categorical)), dtype=np.int32)
    numbers[0], days[0], codes[0] = np.nan, np.nan, -1
    numbers[2], days[2] = 1e6, 2e4
    text = pa.array([None, "", "word"], type=pa.large_string())
    return Frame(schema=schema, numbers=numbers, codes=codes, days=days, texts=(text,) * len(schema.text))


def _say(problem: str) -> None:
    sys.stdout.write(f"\n{MARK}{' '.join(problem.split())[:500]}\n")


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])))
