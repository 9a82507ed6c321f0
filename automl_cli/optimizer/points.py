"""Configurations as rows of an array: drawn, changed a little and made legal many at a time.

ConfigSpace makes one object for each neighbour and checks it, which took two thirds of an ask; here only a
configuration that is proposed becomes an object.
"""

import copy
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automl_cli.optimizer.asktell import SpaceExhausted
from automl_cli.trial import Pipeline

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

Matrix = NDArray[np.float64]

MAX_DRAWS = 2000
STEPS = (0.2, 0.05)  # standard deviations of a change, of the whole range: SMAC's for numbers, and one for the end
CELL = 0.01  # of a range: what differs less in every hyperparameter is the same configuration but for noise


class Points:
    """The points of a private copy of a space, as rows of shape (n_hyperparameters,); NaN where one is inactive.

    Parameters
    ----------
    space : ConfigurationSpace
        Its forbidden clauses are obeyed.
    to_pipeline : callable
        ``to_pipeline(configuration) -> Pipeline``.
    seed : int
        The same seed and the same calls give the same points, in any process.
    """

    def __init__(
        self, space: "ConfigurationSpace", to_pipeline: Callable[["Configuration"], Pipeline], seed: int
    ) -> None:
        self.space = copy.deepcopy(space)
        self._to_pipeline = to_pipeline
        self._random = np.random.RandomState(seed)  # ConfigSpace knows no Generator
        self._parts = list(self.space.values())
        self._conditions = [self.space.parent_conditions_of[part.name] for part in self._parts]

    def drawn(self, n: int) -> Matrix:
        """Draw ``n`` points by the distributions of the hyperparameters; fewer where some are forbidden."""
        return self._legal(self._full(n))

    def changed(self, points: Matrix, n_each: int) -> Matrix:
        """Change one or two active hyperparameters of each point, ``n_each`` times [1]_.

        Few, because in many dimensions a step in all of them leads away from a good point almost surely [2]_.

        Returns
        -------
        ndarray of shape (n_points * n_each, n_hyperparameters), fewer where some are forbidden
            Grouped by point where the space forbids nothing.

        References
        ----------
        .. [1] Hutter et al., Sequential model-based optimization for general algorithm configuration, LION 2011.
        .. [2] Eriksson et al., Scalable global optimization via local Bayesian optimization, NeurIPS 2019: a candidate
           of its trust region differs from the centre in few coordinates.
        """
        rows = np.repeat(points, n_each, axis=0)
        lot = np.where(np.isnan(rows), -1.0, self._random.random_sample(rows.shape))
        order = np.argsort(-lot, axis=1, kind="stable")
        everyone = np.arange(len(rows))
        chosen = np.zeros(rows.shape, dtype=bool)
        chosen[everyone, order[:, 0]] = True
        if rows.shape[1] > 1:
            second = self._random.random_sample(len(rows)) < 0.5
            chosen[everyone[second], order[second, 1]] = True
        step = self._random.choice(STEPS, size=len(rows))
        fresh = self._full(len(rows))
        inactive = np.isnan(rows)
        for column, part in enumerate(self._parts):
            change = chosen[:, column] & ~inactive[:, column]
            if change.any() and _is_number(part):
                fresh[change, column] = self._near(part, rows[change, column], step[change])
        # what a change switches on takes a random value
        return self._legal(np.where(inactive | chosen, fresh, rows))

    def unseen(self, seen: Collection[Pipeline], cells: Collection[bytes] = ()) -> tuple[Matrix, Pipeline]:
        """Draw a point whose pipeline is not among ``seen``, outside of ``cells`` where a hundred draws allow it.

        Raises
        ------
        SpaceExhausted
            If 2000 draws gave no other.
        """
        n_left, n, near = MAX_DRAWS, 1, None
        while n_left > 0:
            for point in self.drawn(n):
                pipeline = self.pipeline(point)
                if pipeline in seen:
                    continue
                if cell(point) not in cells:
                    return point, pipeline
                near = near or (point, pipeline)
            n_left -= n
            if n > 1 and near is not None:
                return near
            n = 100  # the first draw was taken: many are
        raise SpaceExhausted(f"{len(seen)} configurations were tried and {MAX_DRAWS} draws gave no other")

    def pipeline(self, point: Matrix) -> Pipeline:
        """Return what a point stands for."""
        from ConfigSpace import Configuration  # noqa: PLC0415

        return self._to_pipeline(Configuration(self.space, vector=point))

    def _full(self, n: int) -> Matrix:
        """Draw points with a value for every hyperparameter, active or not."""
        columns = [part.sample_vector(n, seed=self._random) for part in self._parts]
        return np.array(columns, dtype=np.float64).T.reshape(n, len(columns))

    def _near(self, part: Any, values: Matrix, step: Matrix) -> Matrix:
        """Move numbers by a normal step, reflected at the ends of the range."""
        moved = np.abs(values + step * self._random.standard_normal(len(values)))
        moved = np.clip(1.0 - np.abs(1.0 - moved), 0.0, 1.0)
        return np.asarray(part.to_vector(part.to_value(moved)), dtype=np.float64)  # integers take whole values

    def _legal(self, points: Matrix) -> Matrix:
        """Switch off what no condition holds for (parents come before their children); drop what is forbidden."""
        columns = np.ascontiguousarray(points.T)
        for i, conditions in enumerate(self._conditions):
            for condition in conditions:
                columns[i, ~condition.satisfied_by_vector_array(columns)] = np.nan
        for clause in self.space.forbidden_clauses:
            columns = columns[:, ~clause.is_forbidden_vector_array(columns)]
        return np.ascontiguousarray(columns.T)


def cell(point: Matrix) -> bytes:
    """Return the same bytes for points that differ by less than a hundredth of a range everywhere, or nearly so.

    >>> cell(np.array([0.501, 2.0, np.nan])) == cell(np.array([0.502, 2.0, np.nan]))
    True
    >>> cell(np.array([0.501, 2.0, np.nan])) == cell(np.array([0.501, 1.0, np.nan]))
    False
    """
    return np.rint(np.nan_to_num(point, nan=-1.0) / CELL).astype(np.int64).tobytes()


def _is_number(part: Any) -> bool:
    """Whether a hyperparameter is a number with a range from 0 to 1 in a point."""
    return hasattr(part, "log") and (part.lower_vectorized, part.upper_vectorized) == (0.0, 1.0)
