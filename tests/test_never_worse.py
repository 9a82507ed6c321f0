"""The promise of ``--source``: whatever the shift, no worse than the data alone, beyond noise."""

import numpy as np

from benchmarks.never_worse import KINDS, draw_shift, gains, mean_and_error


def test_under_random_shifts_a_source_is_never_worse_beyond_noise() -> None:
    by_kind = {}
    for seed in range(len(KINDS)):
        shift = draw_shift(seed)
        by_kind[shift.kind] = gains(shift, 3, ["linear"])
    assert set(by_kind) == set(KINDS)
    for kind, values in by_kind.items():
        mean, error = mean_and_error(values)
        assert mean <= min(max(2 * error, 0.02), 0.1), f"{kind}: {values}"
    assert np.mean(list(by_kind.values())) < -0.02
