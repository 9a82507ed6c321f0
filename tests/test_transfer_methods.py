"""Transfer: every estimator against a closed form or an implementation of another kind."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import LinearRegression, LogisticRegression

from automl_cli.calibration import softmax
from automl_cli.errors import BadArtifact
from automl_cli.features.frame import Frame, FrameSchema
from automl_cli.metrics import METRICS, Array, TaskKind
from automl_cli.transfer import align, boost, density, domain, judge, kernels, labels, selftrain, shift, source
from automl_cli.transfer.features import SharedFeatures
from automl_cli.transfer.probabilities import from_raw, raw_outputs

SIGMAS = 4.0  # a correct estimator is farther off in 1 of 16,000 cases, and the seeds are fixed


def normal(seed: int, n: int, d: int = 1, mean: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(mean, 1.0, (n, d))


def two_classes(seed: int, n: int, share: float, d: int = 1, gap: float = 2.0) -> tuple[Array, Array]:
    """Return rows whose class moves the first column, with ``share`` of the second class."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(np.int64)
    X = rng.normal(size=(n, d))
    X[:, 0] += gap * y
    return X, y


def true_posterior(X: Array, share: float, gap: float = 2.0) -> Array:
    log_odds = gap * X[:, 0] - gap**2 / 2 + np.log(share / (1 - share))
    p = 1 / (1 + np.exp(-log_odds))
    return np.column_stack([1 - p, p])


class TestDomain:
    def test_the_ratio_of_two_normals_is_found(self) -> None:
        """log p_T / p_S = m x - m^2 / 2; slope and base are as far off as a maximum of the likelihood may be."""
        n, mean = 4_000, 1.0
        old, new = normal(1, n), normal(2, n, mean=mean)
        found = domain.tell_apart(old, new, learner="logistic")
        design = np.column_stack([old[:, 0], np.ones(n)])
        slope, base = np.linalg.lstsq(design, found.source, rcond=None)[0]
        pooled = np.concatenate([old, new])[:, 0]
        p = 1 / (1 + np.exp(-(mean * pooled - mean**2 / 2)))
        both = np.column_stack([pooled, np.ones(2 * n)])
        errors = np.sqrt(np.diag(np.linalg.inv((both * (p * (1 - p))[:, None]).T @ both)))
        assert abs(slope - mean) < SIGMAS * errors[0]
        assert abs(base + mean**2 / 2) < SIGMAS * errors[1]

    def test_weights_point_from_source_to_target_and_not_back(self) -> None:
        old, new = normal(3, 4_000), normal(4, 4_000, mean=1.0)
        for learner in domain.LEARNERS:
            weights = density.ratio_weights(domain.tell_apart(old, new, learner=learner))
            assert 0.7 < np.average(old[:, 0], weights=weights) < 1.1, learner

    def test_the_auc_is_that_of_two_normals(self) -> None:
        """AUC = Phi(m / sqrt 2)."""
        auc, low, high = domain.tell_apart(normal(5, 3_000), normal(6, 3_000, mean=1.0), learner="logistic").auc
        assert low < stats.norm.cdf(1 / np.sqrt(2)) < high
        assert high - low < 0.05 and low < auc < high

    def test_rows_beyond_the_sample_get_the_same_ratio(self) -> None:
        old, new = normal(7, 6_000), normal(8, 6_000, mean=1.0)
        found = domain.tell_apart(old, new, learner="logistic", most_rows=1_500)
        assert np.abs(found.source - (old[:, 0] - 0.5)).max() < 0.6
        assert np.corrcoef(found.source, old[:, 0])[0, 1] > 0.999

    def test_a_source_in_chunks_gives_the_ratio_of_two_normals(self) -> None:
        new = normal(9, 2_000, 2, mean=0.5)
        chunks = (normal(100 + k, 2_000, 2) for k in range(20))
        log_odds = domain.logistic_in_chunks(chunks, new)
        fresh = normal(10, 2_000, 2)
        exact = 0.5 * fresh.sum(axis=1) - 0.25
        assert np.sqrt(np.mean((log_odds(fresh) - exact) ** 2)) < 0.15

    def test_categories_are_told_apart_by_the_boosted_learner(self) -> None:
        rng = np.random.default_rng(11)
        old, new = rng.integers(0, 6, (2_000, 1)).astype(float), rng.choice([0.0, 3.0], (2_000, 1))
        found = domain.tell_apart(old, new, categorical=(0,))
        weights = density.ratio_weights(found)
        means = [weights[old[:, 0] == code].mean() for code in range(6)]
        exact = [(new == code).sum() / max(1, (old == code).sum()) for code in range(6)]
        assert np.allclose(means, exact, atol=0.15)

    def test_a_row_of_either_table_is_too_few_to_tell(self) -> None:
        found = domain.tell_apart(normal(1, 50), normal(2, 1, mean=9))
        assert found.auc[0] == 0.5 and not found.source.any()

    def test_calibration_is_a_logistic_regression(self) -> None:
        rng = np.random.default_rng(12)
        z, is_target = rng.normal(size=3_000), rng.random(3_000) < 0.2
        z = 0.3 * z + 0.5 * is_target
        slope, base = domain.calibrate(z, is_target)
        ours = LogisticRegression(C=1e6, class_weight="balanced").fit(z[:, None], is_target)
        assert slope == pytest.approx(ours.coef_[0, 0], rel=0.02)
        assert base == pytest.approx(ours.intercept_[0], abs=0.02)

    @settings(deadline=None, max_examples=8)
    @given(seed=st.integers(0, 10**6), n=st.integers(10, 120), m=st.integers(2, 60), d=st.integers(1, 4))
    def test_weights_are_weights(self, seed: int, n: int, m: int, d: int) -> None:
        old, new = normal(seed, n, d), normal(seed + 1, m, d, mean=0.7)
        old[:, 1:][np.random.default_rng(seed).random((n, d - 1)) < 0.1] = np.nan  # no two rows the same
        found = domain.tell_apart(old, new, learner="logistic")
        order = np.random.default_rng(seed).permutation(n)
        again = domain.tell_apart(old[order], new, learner="logistic")
        for gamma in (0.0, 0.5, 1.0):
            weights = density.ratio_weights(found, gamma=gamma)
            assert np.isfinite(weights).all() and (weights >= 0).all() and weights.mean() == pytest.approx(1)
            assert np.allclose(density.ratio_weights(again, gamma=gamma), weights[order], rtol=1e-3)

    @pytest.mark.parametrize("learner", sorted(domain.LEARNERS))
    def test_tables_of_one_kind_keep_their_weights(self, learner: str) -> None:
        for seed in range(2):
            found = domain.tell_apart(normal(seed, 600, 3), normal(seed + 50, 600, 3), learner=learner, seed=seed)
            weights = density.ratio_weights(found)
            assert found.auc[1] < 0.5 + 0.02 and density.effective_size(weights) > 0.9 * 600


class TestDensity:
    def test_the_effective_size_of_two_normals(self) -> None:
        """E w^2 = exp(m^2), so that n exp(-m^2) rows are left."""
        old = normal(1, 400_000)[:, 0]
        for mean in (0.3, 0.7):
            exact = np.exp(mean * old - mean**2 / 2)
            assert density.effective_size(exact) / len(old) == pytest.approx(np.exp(-(mean**2)), rel=0.05)

    def test_flat_weights_are_ones_and_clipped_ones_have_an_end(self) -> None:
        ratios = np.concatenate([np.ones(999), [1e6]])
        assert (density.finished(ratios, gamma=0.0) == 1).all()
        assert density.finished(ratios).max() == pytest.approx(1.0, rel=0.1)
        assert not density.worth_weighting(density.finished(ratios, clip=1.0))
        assert density.worth_weighting(np.ones(1_000))

    @given(st.lists(st.floats(0, 1e300), min_size=1, max_size=30))
    def test_any_ratios_become_weights(self, ratios: list[float]) -> None:
        weights = density.finished(np.array(ratios))
        assert np.isfinite(weights).all() and (weights >= 0).all()
        assert weights.mean() == pytest.approx(1)
        assert 1 - 1e-9 <= density.effective_size(weights) <= len(weights) + 1e-9

    def test_rows_are_drawn_in_proportion_to_their_weights(self) -> None:
        weights = np.array([0.0, 1.0, 1.0, 6.0])
        firsts = Counter(int(density.drawn_by_weight(weights, 1, seed=seed)[0]) for seed in range(2_000))
        assert firsts[0] == 0
        assert abs(firsts[3] / 2_000 - 0.75) < SIGMAS * np.sqrt(0.75 * 0.25 / 2_000)
        assert density.drawn_by_weight(weights, 9).tolist() == [1, 2, 3]


class TestKernels:
    def test_kliep_has_mean_one_and_no_other_heights_are_likelier(self) -> None:
        old, new = normal(1, 150), normal(2, 60, mean=0.7)
        model = kernels.fit_kliep(old, new)
        assert model.ratio(old).mean() == pytest.approx(1, abs=1e-9)
        old, new = model.standard.apply(old), model.standard.apply(new)
        means = kernels.gaussian(old, model.centres, model.width).mean(axis=0)
        at_target = kernels.gaussian(new, model.centres, model.width)

        def loss(heights: Array) -> float:
            return -float(np.log(np.maximum(at_target @ heights, 1e-12)).mean())

        best = minimize(
            loss,
            np.full(len(means), 1 / means.sum()),
            method="SLSQP",
            bounds=[(0, None)] * len(means),
            constraints={"type": "eq", "fun": lambda heights: means @ heights - 1},
            options={"maxiter": 500, "ftol": 1e-12},
        )
        assert loss(model.heights) < best.fun + 5e-3  # nats; the EM is slow at its end

    def test_kliep_finds_the_ratio_of_two_normals(self) -> None:
        old, new = normal(3, 1_500), normal(4, 1_500, mean=0.5)
        weights = kernels.kliep_weights(old, new)
        exact = np.exp(0.5 * old[:, 0] - 0.125)
        assert np.mean((weights - exact) ** 2) < 0.1 * exact.var()

    def test_kernel_mean_matching_is_the_quadratic_programme(self) -> None:
        old, new = normal(5, 40), normal(6, 50, mean=0.6)
        kernel = kernels.gaussian(old, old, 1.0)
        towards = kernels.gaussian(old, new, 1.0).mean(axis=1)
        ours = kernels.matched(lambda w: kernel @ w, towards, 3.0)

        def loss(w: Array) -> float:
            return float(w @ kernel @ w / (2 * len(w)) - w @ towards)

        best = minimize(
            loss,
            np.ones(40),
            jac=lambda w: kernel @ w / len(w) - towards,
            method="SLSQP",
            bounds=[(0, 3)] * 40,
            constraints={"type": "eq", "fun": lambda w: w.mean() - 1, "jac": lambda w: np.full(40, 1 / 40)},
            options={"maxiter": 1_000, "ftol": 1e-14},
        )
        assert ours.mean() == pytest.approx(1, abs=1e-9) and ours.min() >= 0 and ours.max() <= 3 + 1e-9
        assert loss(ours) < best.fun + 1e-4

    def test_momentum_takes_no_step_uphill_and_is_worth_its_rounds(self) -> None:
        old, new = normal(5, 300, 3), normal(6, 300, 3, mean=0.5)
        kernel = kernels.gaussian(old, old, 1.0)
        towards = kernels.gaussian(old, new, 1.0).mean(axis=1)
        asked: list[Array] = []

        def apply(w: Array) -> Array:
            asked.append(w)
            return kernel @ w

        def loss(w: Array) -> float:
            return float(w @ kernel @ w / (2 * len(w)) - w @ towards)

        ours = kernels.matched(apply, towards, 50.0)
        rounds = asked[21:]  # the first ones look for the largest eigenvalue
        gained = loss(rounds[0]) - loss(ours)
        assert np.diff([loss(w) for w in rounds]).max() < 1e-3 * gained
        plain, step = np.ones(300), 300 / (1.05 * float(np.linalg.eigvalsh(kernel)[-1]))
        for _ in range(len(rounds)):
            plain = kernels.onto_weights(plain - step * (kernel @ plain / 300 - towards), 50.0)
        assert loss(ours) <= loss(plain)

    @pytest.mark.parametrize("n", [800, 3_000])  # the kernel itself, and random features
    def test_kernel_mean_matching_matches_means(self, n: int) -> None:
        old, new = normal(7, n, 2), normal(8, 500, 2, mean=0.5)
        weights = kernels.kmm_weights(old, new)
        some = slice(0, 800)
        before = kernels.mean_discrepancy(old[some], new, np.ones(800), 1.5)
        after = kernels.mean_discrepancy(old[some], new, weights[some], 1.5)
        assert after < 0.1 * before
        assert np.allclose(np.average(old, axis=0, weights=weights), new.mean(axis=0), atol=0.1)

    def test_random_features_approach_the_kernel(self) -> None:
        X = normal(9, 50, 3)
        Z = kernels.fourier_features(3, 1.3, np.random.default_rng(0))(X)
        assert np.abs(Z @ Z.T - kernels.gaussian(X, X, 1.3)).max() < 6 / np.sqrt(kernels.N_FEATURES / 2)

    @settings(deadline=None, max_examples=10)
    @given(seed=st.integers(0, 10**6), n=st.integers(2, 60), m=st.integers(1, 40), far=st.floats(0, 20))
    def test_weights_are_weights(self, seed: int, n: int, m: int, far: float) -> None:
        old, new = normal(seed, n, 2), normal(seed + 1, m, 2, mean=far)
        for weights in (kernels.kliep_weights(old, new), kernels.kmm_weights(old, new)):
            assert np.isfinite(weights).all() and (weights >= 0).all()
            assert weights.mean() == pytest.approx(1, abs=1e-6)

    def test_tables_of_one_kind_keep_their_weights(self) -> None:
        old, new = normal(10, 1_000, 2), normal(11, 1_000, 2)
        assert density.effective_size(kernels.kliep_weights(old, new)) > 800
        assert np.abs(np.average(old, axis=0, weights=kernels.kmm_weights(old, new)) - new.mean(axis=0)).max() < 0.05


class TestAlign:
    def test_coral_gives_the_target_s_moments(self) -> None:
        rng = np.random.default_rng(1)
        old = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) * [1, 1e3, 1e-3, 1] + 5
        new = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4)) * [1, 1e3, 1e-3, 1] - 2
        moved = align.fit_coral(old, new, ridge=0.0).move(old)
        assert np.allclose(np.cov(moved.T, bias=True), np.cov(new.T, bias=True), rtol=1e-6)
        assert np.allclose(moved.mean(axis=0), new.mean(axis=0))
        soft = align.fit_coral(old, new).move(old)
        assert np.allclose(soft.std(axis=0), new.std(axis=0), rtol=0.05)

    def test_coral_leaves_a_source_that_is_like_the_target(self) -> None:
        X = normal(2, 500, 3) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.3, 2.0]])
        assert np.allclose(align.fit_coral(X, X).move(X), X)

    def test_coral_with_missing_constant_and_repeated_columns(self) -> None:
        rng = np.random.default_rng(3)
        old, new = rng.normal(size=(400, 5)), 2 * rng.normal(size=(300, 5)) + 1
        old[:, 1], new[:, 1] = 7.0, 7.0
        old[:, 3], new[:, 3] = old[:, 2], new[:, 2]
        old[:, 4] = np.nan
        old[rng.random(400) < 0.2, 0] = np.nan
        moved = align.fit_coral(old, new).move(old)
        assert (np.isnan(moved) == np.isnan(old)).all()
        # the other columns of the rows that are not missing are means of chance
        assert np.nanmean(moved[:, 0]) == pytest.approx(new[:, 0].mean(), abs=SIGMAS * 2 * np.sqrt(0.2 / 320))
        assert np.nanstd(moved[:, 0]) == pytest.approx(new[:, 0].std(), rel=0.05)
        assert np.allclose(moved[:, 1], 7) and np.allclose(moved[:, 2], moved[:, 3], atol=0.1)

    def test_single_precision_and_many_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Values far from zero, as float32, of which every third row is looked at."""
        monkeypatch.setattr(align, "MOST_ROWS", 2_000)
        old, new = 1_000 + normal(9, 6_000, 2), 1_003 + 2 * normal(10, 6_000, 2)
        for fit in (align.fit_coral, align.fit_quantile_map):
            moved = fit(old.astype(np.float32), new.astype(np.float32)).move(old.astype(np.float32))
            assert np.allclose(moved.mean(axis=0), 1_003, atol=SIGMAS * 2 * np.sqrt(2 / 2_000))
            assert np.allclose(moved.std(axis=0), 2, rtol=SIGMAS / np.sqrt(2_000))

    def test_the_turn_is_the_least_squares_one(self) -> None:
        rng = np.random.default_rng(4)
        old, new = (rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) for _ in range(2))
        found = align.fit_subspace(old, new, most=3)
        best = np.linalg.lstsq(found.source_basis, found.target_basis, rcond=None)[0]
        assert np.allclose(found.turn, best)
        assert found.of_source(old).shape == (300, found.turn.shape[1]) and found.turn.shape[1] == 3

    def test_one_domain_has_one_subspace(self) -> None:
        X = normal(5, 300, 4) * [4, 3, 2, 1]
        found = align.fit_subspace(X, X)
        assert np.allclose(found.of_source(X), found.of_target(X))
        direct = (X - X.mean(axis=0)) / X.std(axis=0)
        assert np.allclose(np.linalg.norm(found.of_target(X)[:, :4], axis=1), np.linalg.norm(direct, axis=1))

    def test_quantiles_of_normals_are_moved_by_a_line(self) -> None:
        old, new = normal(6, 20_000), 3 + 2 * normal(7, 20_000)
        moved = align.fit_quantile_map(old, new).move(old)[:, 0]
        inner = np.abs(old[:, 0]) < 2
        # the error of a quantile: sqrt(u (1 - u) / n) / density, twice, at the scale 2
        assert (
            np.abs(moved - (3 + 2 * old[:, 0]))[inner].max() < SIGMAS * 2 * np.sqrt(2 * 0.023 / 20_000) / 0.054 + 0.05
        )

    def test_quantiles_keep_order_gaps_and_categories_in_disguise(self) -> None:
        rng = np.random.default_rng(8)
        old = np.column_stack([rng.exponential(size=500).round(1), rng.integers(0, 3, 500)])
        new = np.column_stack([rng.normal(size=400), rng.integers(0, 3, 400) + 5.0])
        old[::7, 0] = np.nan
        moved = align.fit_quantile_map(old, new).move(old)
        assert (moved[:, 1] == old[:, 1]).all() and (np.isnan(moved) == np.isnan(old)).all()
        there = ~np.isnan(old[:, 0])
        order = np.argsort(old[there, 0], kind="stable")
        assert (np.diff(moved[there, 0][order]) >= 0).all()


def test_empty_constant_and_infinite_columns_are_survived_by_all() -> None:
    old, new = normal(1, 200, 4), normal(2, 80, 4)
    old[:, 1], new[:, 1] = np.nan, np.nan
    old[:, 2], new[:, 2] = 3.0, 4.0
    old[5, 0] = np.inf
    for learner in domain.LEARNERS:
        assert np.isfinite(domain.tell_apart(old, new, learner=learner).source).all()
    for weigh in (kernels.kliep_weights, kernels.kmm_weights):
        weights = weigh(old, new)
        assert np.isfinite(weights).all() and weights.mean() == pytest.approx(1, abs=1e-6)
    for fit in (align.fit_coral, align.fit_quantile_map):
        moved = fit(old, new).move(old)
        assert (np.isnan(moved) == np.isnan(old)).all() and np.isfinite(moved[:, [0, 2, 3]]).all()
    assert np.isfinite(align.fit_subspace(old, new).of_source(old)).all()
    empty = np.full((30, 1), np.nan)
    assert domain.tell_apart(empty, empty).auc[0] == 0.5


class TestLabels:
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_bbse_finds_the_shares_within_its_standard_error(self, share: float) -> None:
        n = 4_000
        (X, y), (Z, _) = two_classes(1, n, 0.4), two_classes(2, n, share)
        p, q = true_posterior(X, 0.4)[:, 1] ** 2, true_posterior(Z, 0.4)[:, 1] ** 2  # badly calibrated on purpose
        found = labels.fit_bbse(np.column_stack([1 - p, p]), y, np.column_stack([1 - q, q]))
        gap = p[y == 1].mean() - p[y == 0].mean()
        parts = [
            q.var() / n,
            share**2 * p[y == 1].var() / (y == 1).sum(),
            (1 - share) ** 2 * p[y == 0].var() / (y == 0).sum(),
        ]
        assert abs(found.after[1] - share) < SIGMAS * np.sqrt(sum(parts)) / gap
        exact = (q.mean() - p[y == 0].mean()) / gap
        assert found.after[1] == pytest.approx((n * exact + y.mean()) / (n + 1), abs=1e-9)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_the_em_finds_the_shares_within_its_standard_error(self, share: float) -> None:
        Z, _ = two_classes(3, 4_000, share)
        p = true_posterior(Z, 0.4)
        ratios = p / [0.6, 0.4]
        found = labels.likeliest_shares(p, np.array([0.6, 0.4]))[1]

        def loss(q: float) -> float:
            return -float(np.log(ratios @ [1 - q, q]).sum())

        assert found == pytest.approx(minimize_scalar(loss, bounds=(1e-6, 1 - 1e-6), method="bounded").x, abs=1e-4)
        information = (((ratios[:, 1] - ratios[:, 0]) / (ratios @ [1 - share, share])) ** 2).sum()
        assert abs(found - share) < SIGMAS / np.sqrt(information)

    def test_mlls_calibrates_first(self) -> None:
        (X, y), (Z, _) = two_classes(4, 8_000, 0.3), two_classes(5, 8_000, 0.7)
        sharp = [softmax(3 * np.log(true_posterior(rows, 0.3)) + [0.0, 1.0]) for rows in (X, Z)]
        found = labels.fit_mlls(sharp[0], y, sharp[1])
        assert found.after[1] == pytest.approx(0.7, abs=0.03)
        assert np.abs(found.correct(sharp[1]) - true_posterior(Z, 0.7)).mean() < 0.02

    def test_corrected_probabilities_are_those_of_the_new_shares(self) -> None:
        Z, _ = two_classes(6, 1_000, 0.5)
        moved = labels.LabelShift(np.array([0.8, 0.2]), np.array([0.3, 0.7])).correct(true_posterior(Z, 0.2))
        assert np.allclose(moved, true_posterior(Z, 0.7))

    def test_three_classes_and_one_that_the_source_lacks(self) -> None:
        rng = np.random.default_rng(7)
        before, after = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.3, 0.6, 0.0])

        def drawn(shares: Array, n: int) -> tuple[Array, Array]:
            y = rng.choice(4, n, p=shares)
            X = 2.0 * np.eye(4)[y] + rng.normal(size=(n, 4))
            return softmax(2.0 * X + np.log(np.maximum(before, 1e-12))), y

        (p, y), (q, _) = drawn(before, 6_000), drawn(after, 6_000)
        for found in (labels.fit_bbse(p, y, q), labels.fit_mlls(p, y, q)):
            assert np.allclose(found.after, after, atol=0.04)
            assert np.isfinite(found.correct(q)).all() and np.allclose(found.correct(q).sum(axis=1), 1)

    def test_the_offsets_are_those_of_a_general_search(self) -> None:
        p, y = true_posterior(two_classes(8, 500, 0.3)[0], 0.6), two_classes(8, 500, 0.3)[1]
        found = labels.fit_offsets(p, y)

        def loss(at: Array) -> float:
            moved = softmax(at[0] * np.log(p) + at[1:])
            return float(-np.log(moved[np.arange(500), y]).sum() + 0.5 * ((at - [1, 0, 0]) ** 2).sum())

        ours = loss(np.array([found.inverse, *found.offsets]))
        assert ours <= minimize(loss, np.array([1.0, 0, 0]), method="BFGS").fun + 1e-6

    def test_the_test_is_as_often_wrong_as_it_says(self) -> None:
        ps = []
        for seed in range(200):
            (X, y), (Z, _) = two_classes(seed, 600, 0.4), two_classes(seed + 1_000, 400, 0.7)
            ps.append(labels.label_shift_test(true_posterior(X, 0.4), y, true_posterior(Z, 0.4)).p)
        wrong = np.mean(np.array(ps) < 0.05)
        assert wrong < 0.05 + SIGMAS * np.sqrt(0.05 * 0.95 / 200)
        assert stats.kstest(ps, "uniform").pvalue > 1e-4

    def test_the_test_sees_other_shifts_and_other_shares(self) -> None:
        (X, y), (Z, _), (same, _) = two_classes(1, 2_000, 0.4), two_classes(2, 2_000, 0.7), two_classes(3, 2_000, 0.4)
        p = true_posterior(X, 0.4)
        shares = labels.label_shift_test(p, y, true_posterior(Z, 0.4))
        assert shares.moved_p < 1e-6 and shares.p > 0.01
        assert labels.label_shift_test(p, y, true_posterior(same, 0.4)).moved_p > 0.01
        assert labels.label_shift_test(p, y, true_posterior(Z * 2 - 1, 0.4)).p < 1e-6


class TestBoost:
    Y = np.array([0, 1, 0, 1])
    IS_SOURCE = np.array([True, True, False, False])

    def test_the_first_updates_by_hand(self) -> None:
        """The model is wrong on rows 1 and 3: E = 1/2, taken as 0.49."""
        seen: list[Array] = []

        def fit(rows: Array, weights: Array):
            seen.append(weights)
            return lambda rows: np.array([[0.9, 0.1]] * len(rows))

        found = boost.tradaboost(fit, self.Y, self.IS_SOURCE, rounds=2)
        fade, factor = 1 / (1 + np.sqrt(2 * np.log(2) / 2)), 0.49 / 0.51
        by_hand = np.array([1, fade, 1, 1 / factor])
        assert np.allclose(seen[1], by_hand * 4 / by_hand.sum())
        twice = by_hand * [1, fade, 1, 1]
        error = (by_hand[3]) / (by_hand[2] + by_hand[3])
        twice[3] *= (1 - min(error, 0.49)) / min(error, 0.49)
        assert np.allclose(found.weights[2], twice * 4 / twice.sum())
        assert found.votes[0] == pytest.approx(-np.log(factor))
        assert np.allclose(found.predict(np.arange(3)), [[0.9, 0.1]] * 3)

    def test_the_first_update_of_a_regression_by_hand(self) -> None:
        y = np.array([1.0, 4.0, 2.0, 0.0])  # errors 1, 4, 2, 0 over 4; E = (1/2 + 0) / 2 = 1/4

        def fit(rows: Array, weights: Array):
            return lambda rows: np.zeros((len(rows), 1))

        found = boost.tradaboost_r2(fit, y, self.IS_SOURCE, rounds=1)
        fade, factor = 1 / (1 + np.sqrt(2 * np.log(2))), (1 / 4) / (3 / 4)
        by_hand = np.array([fade**0.25, fade, factor**-0.5, 1])
        assert np.allclose(found.weights[1], by_hand * 4 / by_hand.sum())

    def test_the_median_is_weighted_by_votes(self) -> None:
        outputs = (1.0, 2.0, 10.0, 1.0, 2.0, 10.0)
        predictors = tuple(lambda rows, v=v: np.full((len(rows), 1), v) for v in outputs)
        found = boost.Boosted(np.ones((7, 1)), np.array([9.0, 9, 9, 1, 1, 3]), predictors)
        assert found.predict_median(np.arange(2)).tolist() == [[10.0], [10.0]]

    def test_source_rows_that_contradict_the_target_fade(self) -> None:
        (X, y), (Z, z) = two_classes(1, 400, 0.5), two_classes(2, 60, 0.5)
        y[:200] = 1 - y[:200]
        rows, truth = np.concatenate([X, Z]), np.concatenate([y, z])

        def fit(at: Array, weights: Array):
            model = LogisticRegression().fit(rows[at], truth[at], sample_weight=weights)
            return lambda at: model.predict_proba(rows[at])

        is_source = np.arange(460) < 400
        found = boost.tradaboost(fit, truth, is_source)
        last = found.weights[-1]
        assert last[:200].mean() < 0.5 * last[200:400].mean()
        assert np.isfinite(found.weights).all() and np.allclose(found.weights.mean(axis=1), 1)


class TestSource:
    def test_raw_outputs_and_back(self) -> None:
        p = softmax(normal(1, 20, 3))
        assert np.allclose(from_raw(raw_outputs(p, TaskKind.MULTICLASS), TaskKind.MULTICLASS), p)
        two = softmax(normal(1, 20, 2))
        assert np.allclose(from_raw(raw_outputs(two, TaskKind.BINARY), TaskKind.BINARY), two)

    def test_values_are_recalibrated_by_least_squares(self) -> None:
        raw = normal(2, 200) * 1e4 + 3e4
        y = 0.5 * raw[:, 0] - 7 + normal(3, 200)[:, 0]
        found = source.fit_recalibration(raw, y, TaskKind.REGRESSION, pull=0.0)
        best = LinearRegression().fit(raw, y)
        assert found.slope == pytest.approx(best.coef_[0]) and found.base[0] == pytest.approx(best.intercept_, rel=1e-6)
        left = found.residuals(y, raw)
        assert np.allclose(found.restored(left[:, None], raw)[:, 0], y)

    @pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.MULTICLASS])
    def test_classes_are_recalibrated_by_maximum_likelihood(self, kind: TaskKind) -> None:
        k = 2 if kind is TaskKind.BINARY else 4
        rng = np.random.default_rng(4)
        p = softmax(rng.normal(size=(300, k)))
        raw = raw_outputs(p, kind)
        true = from_raw(2.0 * raw + np.arange(raw.shape[1]) / 3, kind)
        y = (true.cumsum(axis=1) > rng.random((300, 1))).argmax(axis=1)
        found = source.fit_recalibration(raw, y, kind)

        def loss(at: Array) -> float:
            outputs = from_raw(at[0] * raw + at[1:], kind)
            start = np.eye(len(at))[0]
            return float(-np.log(outputs[np.arange(300), y]).sum() + 0.5 * ((at - start) ** 2).sum())

        best = minimize(loss, np.eye(raw.shape[1] + 1)[0], method="BFGS").fun
        assert loss(np.array([found.slope, *found.base])) <= best + 1e-5

    @pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.REGRESSION])
    def test_few_labels_leave_the_source_model_as_it_is(self, kind: TaskKind) -> None:
        raw = np.array([[1.0], [-1.0]])
        found = source.fit_recalibration(raw, np.array([1, 0]), kind, pull=1e9)
        assert found.slope == pytest.approx(1, abs=1e-6) and found.base[0] == pytest.approx(0, abs=1e-6)

    def test_rows_that_can_be_told_apart_are_learned_without_end_and_stay_finite(self) -> None:
        raw = np.array([[-8.0], [-9.0], [8.0], [9.0]])
        found = source.fit_recalibration(raw, np.array([1, 1, 0, 0]), TaskKind.BINARY)
        assert np.isfinite(found.predict(raw)).all()
        assert found.slope < 0

    def test_no_row_is_predicted_by_a_model_that_has_seen_it(self) -> None:
        def fit(rows: Array, weights: Array):
            assert len(rows) == len(weights)
            known = set(rows.tolist())
            return lambda asked: np.array([[float(row in known)] for row in asked])

        rows, others = np.arange(100, 117), np.arange(3)
        assert (source.cross_fitted(fit, rows) == 0).all()
        own, there = source.cross_fitted_with(fit, rows, others)
        assert own.shape == (17, 1) and there.shape == (3, 1) and not own.any() and not there.any()


class TestSelfTraining:
    def test_more_rows_each_round_and_all_at_the_end(self) -> None:
        sizes: list[int] = []

        def fit(rows: Array, y: Array, weights: Array):
            assert len(rows) == len(y) == len(weights)
            assert rows[:4].tolist() == [0, 1, 2, 3]
            sizes.append(len(rows))
            return lambda rows: softmax(np.column_stack([np.zeros(len(rows)), rows - 52.0]))

        selftrain.self_train(fit, np.arange(4), np.array([0, 1, 0, 1]), np.arange(4, 104))
        assert sizes[0] == 4 and sizes[-1] == 104 and sizes == sorted(sizes)
        assert [size - 4 for size in sizes[1:-1]] == pytest.approx([20, 40, 60, 80], abs=2)

    def test_two_clouds_are_learned_from_four_labels(self) -> None:
        X, truth = two_classes(1, 1_000, 0.5, d=5, gap=4.0)
        labelled = np.concatenate([np.flatnonzero(truth == c)[:2] for c in (0, 1)])

        def fit(rows: Array, y: Array, weights: Array):
            model = LogisticRegression().fit(X[rows], y, sample_weight=weights)
            return lambda rows: model.predict_proba(X[rows])

        rest = np.setdiff1d(np.arange(1_000), labelled)
        before = fit(labelled, truth[labelled], np.ones(4))(rest).argmax(axis=1)
        after = selftrain.self_train(fit, labelled, truth[labelled], rest)(rest).argmax(axis=1)
        assert (after == truth[rest]).mean() > max((before == truth[rest]).mean(), 0.95)

    def test_values_count_as_sure_where_models_agree(self) -> None:
        others = (lambda rows: rows[:, None] * 2.0, lambda rows: rows[:, None] * 0.5)
        sure = selftrain.agreement(others)(np.arange(5), np.arange(5.0)[:, None])
        assert np.argsort(-sure).tolist() == [0, 1, 2, 3, 4]

    def test_nothing_unlabelled_is_the_plain_fit(self) -> None:
        def fit(rows: Array, y: Array, weights: Array):
            return lambda rows: np.ones((len(rows), 1))

        predict = selftrain.self_train(fit, np.arange(3), np.array([1.0, 2, 3]), np.arange(0))
        assert predict(np.arange(2)).tolist() == [[1.0], [1.0]]


class TestShift:
    NAMES = ("a", "b", "c")

    def found(self, target: shift.Side, seed: int = 1) -> shift.Shift:
        X, y = two_classes(seed, 2_000, 0.4, d=3)
        home = shift.Side(X, y, true_posterior(X, 0.4))
        return shift.find_shift(home, target, kind=TaskKind.BINARY, names=self.NAMES)

    def test_no_shift(self) -> None:
        Z, z = two_classes(21, 800, 0.4, d=3)
        found = self.found(shift.Side(Z, z, true_posterior(Z, 0.4)))
        assert found.kinds == ()
        assert found.sentences()[-1] == "No shift is seen."

    @pytest.mark.parametrize("labelled", [True, False])
    def test_a_label_shift(self, labelled: bool) -> None:
        Z, z = two_classes(22, 1_500, 0.85, d=3)
        found = self.found(shift.Side(Z, z if labelled else None, true_posterior(Z, 0.4)))
        assert found.kinds == ("label",)
        assert found.classes_after[1] == pytest.approx(0.85, abs=0.05)
        assert found.moved[0].name == "a"

    @pytest.mark.parametrize("labelled", [True, False])
    def test_a_covariate_shift(self, labelled: bool) -> None:
        rng = np.random.default_rng(23)
        Z = rng.normal([0.0, 1.5, 0.0], 1.0, (1_500, 3))
        z = (rng.random(1_500) < true_posterior(Z, 0.4)[:, 1]).astype(np.int64)
        found = self.found(shift.Side(Z, z if labelled else None, true_posterior(Z, 0.4)))
        assert "covariate" in found.kinds and "concept" not in found.kinds
        assert found.moved[0].name == "b" and found.moved[0].size > 0.3
        assert found.effective_rows < 1_000

    @pytest.mark.parametrize("turned", [0, 1])
    def test_a_concept_shift(self, turned: int) -> None:
        """The same rows, the target upside down, or another column that counts as well."""
        rng = np.random.default_rng(24)
        Z, _ = two_classes(25, 600, 0.4, d=3)
        p = true_posterior(Z, 0.4)[:, 1]
        p = 1 - p if turned == 0 else 1 / (1 + np.exp(-np.log(p / (1 - p)) - 2 * Z[:, 2]))
        z = (rng.random(600) < p).astype(np.int64)
        found = self.found(shift.Side(Z, z, true_posterior(Z, 0.4)))
        assert found.kinds[-1] == "concept"
        assert "concept shift" in " ".join(found.sentences())

    def test_a_concept_is_seldom_called_shifted_by_chance(self) -> None:
        calls = 0
        for seed in range(60):
            (X, y), (Z, z) = two_classes(seed, 500, 0.4, d=3), two_classes(seed + 500, 150, 0.4, d=3)
            home, there = (shift.Side(A, b, true_posterior(A, 0.4)) for A, b in ((X, y), (Z, z)))
            p = shift._concept_p(home, there, TaskKind.BINARY, None)
            calls += p is not None and p < 0.05
        assert calls <= 60 * 0.05 + SIGMAS * np.sqrt(60 * 0.05 * 0.95)

    @pytest.mark.parametrize("n", [1, 10])
    def test_a_target_of_few_rows_and_one_class_is_told_nothing_wrong(self, n: int) -> None:
        X, y = two_classes(1, 300, 0.4, d=3)
        Z, z = two_classes(2, n, 0.0, d=3)
        home, there = shift.Side(X, y, true_posterior(X, 0.4)), shift.Side(Z, z, true_posterior(Z, 0.4))
        found = shift.find_shift(home, there, kind=TaskKind.BINARY, names=self.NAMES)
        assert found.n_target == n and found.sentences() and "concept" not in found.kinds
        json.dumps(found.to_json())

    def test_a_regression(self) -> None:
        X, Z = normal(1, 1_000, 3), normal(2, 300, 3)
        y, z = X[:, 0] + 0.1 * normal(3, 1_000)[:, 0], 2 * Z[:, 0] + 0.1 * normal(4, 300)[:, 0]
        home, there = shift.Side(X, y, X[:, :1]), shift.Side(Z, z, Z[:, :1])
        found = shift.find_shift(home, there, kind=TaskKind.REGRESSION, names=self.NAMES, n_repeated=3)
        assert found.kinds == ("concept",)
        assert found.sentences()[-1].startswith("3 rows are in both tables")
        assert found.to_json()["moved"][0].keys() == {"name", "size", "p"}

    def test_categories_and_missing_values_move_too(self) -> None:
        rng = np.random.default_rng(5)
        old = np.column_stack([rng.integers(-1, 4, 900), rng.normal(size=900)]).astype(float)
        new = np.column_stack([rng.integers(2, 6, 700), np.where(rng.random(700) < 0.5, np.nan, rng.normal(size=700))])
        moved = shift.moved_columns(old, new, ("code", "number"), (0,))
        assert {column.name for column in moved if column.p < 1e-6 and column.size > 0.1} == {"code", "number"}

    @given(st.lists(st.integers(0, 6), max_size=30), st.lists(st.integers(0, 6), max_size=30))
    def test_repeated_rows_by_counting(self, old: list[int], new: list[int]) -> None:
        found = shift.repeated_rows(np.array(old, dtype=np.uint64), np.array(new, dtype=np.uint64))
        assert Counter(old[i] for i in found) == Counter(old) & Counter(new)
        assert found.tolist() == sorted(set(found.tolist()))


class TestJudge:
    def test_the_corrected_test_is_its_formula(self) -> None:
        before, after = np.array([0.5, 0.6, 0.7, 0.4]), np.array([0.4, 0.55, 0.5, 0.45])
        found = judge.corrected_gain(before, after, n_train=80, n_valid=20)
        gains = before - after
        error = np.sqrt((1 / 4 + 20 / 80) * gains.var(ddof=1))
        assert found.standard_error == pytest.approx(error)
        assert found.p == pytest.approx(stats.t.sf(gains.mean() / error, 3))
        usual = stats.ttest_1samp(gains, 0, alternative="greater").pvalue
        assert found.p > usual  # more careful than one that takes folds for independent

    def test_a_gain_of_less_than_its_error_is_left(self) -> None:
        folds = judge.repeated_folds(np.arange(50.0), TaskKind.REGRESSION)
        noise = np.random.default_rng(0).normal(size=len(folds))
        assert not judge.judge_with_labels(noise, noise, folds).accepted
        assert not judge.judge_with_labels(noise, noise - 0.05 * np.roll(noise, 1), folds).accepted
        assert judge.judge_with_labels(noise, noise - 1.0, folds).accepted
        assert "standard error" in judge.judge_with_labels(noise, noise - 1.0, folds).reason

    @given(st.integers(2, 60), st.integers(1, 4), st.integers(0, 99))
    def test_folds_hold_every_row_once_each_time(self, n: int, k: int, seed: int) -> None:
        y = np.random.default_rng(seed).integers(0, k, n)
        for kind in (TaskKind.MULTICLASS, TaskKind.REGRESSION):
            folds = judge.repeated_folds(y, kind, folds=5, repeats=2, seed=seed)
            per_time = len(folds) // 2
            for time in range(2):
                valid = np.concatenate([valid for _, valid in folds[time * per_time : (time + 1) * per_time]])
                assert sorted(valid.tolist()) == list(range(n))
            assert all(not set(train) & set(valid) and len(train) for train, valid in folds)
            if kind is TaskKind.MULTICLASS:
                counts = np.array([np.bincount(y[valid], minlength=k) for _, valid in folds])
                assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()

    def test_the_weighted_gain_is_that_of_the_target(self) -> None:
        """Losses x^2 and 0 under N(0, 1), as if under N(1, 1): the mean of x^2 is then 2."""
        x = normal(1, 100_000)[:, 0]
        found = judge.weighted_gain(x**2, np.zeros_like(x), np.exp(x - 0.5))
        assert abs(found.mean - 2) < SIGMAS * found.standard_error
        plain = judge.paired_gain(x**2, np.zeros_like(x))
        assert plain.standard_error == pytest.approx((x**2).std() / np.sqrt(len(x)))

    def test_its_standard_error_is_how_much_it_varies(self) -> None:
        runs = []
        for seed in range(300):
            x = normal(seed, 400)[:, 0]
            runs.append(judge.weighted_gain(x, np.zeros_like(x), np.exp(0.5 * x - 0.125)))
        spread = np.std([run.mean for run in runs])
        assert np.mean([run.standard_error for run in runs]) == pytest.approx(spread, rel=0.15)

    def test_both_scores_must_agree(self) -> None:
        sure, unsure = judge.Gain(1.0, 0.5, 0.02), judge.Gain(1.0, 1.5, 0.3)
        assert judge.judge_without_labels(sure, sure).accepted
        for circular, weighted in ((sure, unsure), (unsure, sure)):
            verdict = judge.judge_without_labels(circular, weighted)
            assert not verdict.accepted
        assert verdict.reason == "no gain is seen by circular validation"
        assert verdict.to_json()["gains"]["weighted"]["mean"] == 1.0

    def test_shares_of_classes_are_corrected_where_nothing_else_has_moved(self) -> None:
        sure, unsure = judge.Gain(1.0, 0.5, 0.02), judge.Gain(1.0, 1.5, 0.3)
        assert judge.judge_label_shift(("label",), sure).accepted
        for kinds, gain in (((), sure), (("covariate",), sure), (("label", "concept"), sure), (("label",), unsure)):
            assert not judge.judge_label_shift(kinds, gain).accepted

    def test_what_was_corrected_there_is_undone_on_the_way_back(self) -> None:
        X, y = two_classes(6, 400, 0.5)
        Z, z = two_classes(7, 400, 0.9)
        rows, at_home, away = np.concatenate([X, Z]), np.arange(400), np.arange(400, 800)

        def fit(at: Array, made: Array, weights: Array):
            model = LogisticRegression().fit(rows[at], made, sample_weight=weights)
            return lambda at: model.predict_proba(rows[at])

        way = labels.LabelShift(np.array([0.5, 0.5]), np.array([0.1, 0.9]))
        plain, undone = (
            judge.circular_losses(np.eye(2)[z], y, fit, source=at_home, target=away, kind=TaskKind.BINARY, undo=undo)
            for undo in (None, way.reversed().correct)
        )
        assert undone.mean() < plain.mean()
        assert undone.mean() == pytest.approx(
            judge.row_losses(y, true_posterior(X, 0.5), TaskKind.BINARY).mean(), rel=0.1
        )

    def test_labels_that_lead_back_are_better_than_labels_that_do_not(self) -> None:
        (X, y), (Z, _) = two_classes(2, 300, 0.5), two_classes(3, 300, 0.5)
        rows, at_home, away = np.concatenate([X, Z]), np.arange(300), np.arange(300, 600)

        def fit(at: Array, made: Array, weights: Array):
            model = LogisticRegression().fit(rows[at], made, sample_weight=weights)
            return lambda at: model.predict_proba(rows[at])

        good = true_posterior(Z, 0.5)
        losses = [
            judge.circular_losses(pseudo, y, fit, source=at_home, target=away, kind=TaskKind.BINARY)
            for pseudo in (good[:, ::-1], good)
        ]
        gain = judge.paired_gain(*losses)
        assert gain.sure and gain.mean > 0.5

    def test_row_losses_are_the_metrics_(self) -> None:
        X, y = two_classes(4, 200, 0.5)
        p = true_posterior(X, 0.5)
        assert judge.row_losses(y, p, TaskKind.BINARY).mean() == pytest.approx(METRICS["log_loss"].loss(y, p, None))
        folds = judge.repeated_folds(y, TaskKind.BINARY, repeats=1)
        losses = judge.fold_losses(y, [p[valid] for _, valid in folds], folds, METRICS["log_loss"].loss)
        assert np.mean(losses) == pytest.approx(METRICS["log_loss"].loss(y, p, None), rel=0.05)


def frame(n: int, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 3)) @ np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.1]])
    numbers[rng.random(n) < 0.1, 0] = np.nan
    codes = np.column_stack([rng.integers(-1, 4, n), np.minimum(rng.geometric(0.4, n) - 1, 9)]).astype(np.int32)
    schema = FrameSchema(numeric=("a", "b", "c"), categorical=("u", "v"), n_categories=(4, 10))
    return Frame(schema, np.asfortranarray(numbers), codes, np.empty((n, 0)))


class TestFeatures:
    def test_frequencies_ranks_directions_and_distances(self) -> None:
        rows = frame(2_000)
        made = SharedFeatures.fit(rows, 0)
        X = made.transform(rows)
        assert X.shape == (2_000, len(made.sources())) and X.dtype == np.float32
        counts = Counter(rows.codes[:, 1].tolist())
        assert np.allclose(X[:, 1], [counts[code] / 2_000 for code in rows.codes[:, 1]])
        assert (np.isnan(X[:, 2]) == np.isnan(rows.numbers[:, 0])).all()
        exact = 2 * (stats.rankdata(rows.numbers[:, 1]) - 0.5) / 2_000 - 1
        assert np.abs(X[:, 3] - exact).max() < 0.02
        ranks = np.nan_to_num(X[:, 2:5].astype(np.float64))
        _, _, directions = np.linalg.svd(ranks - ranks.mean(axis=0), full_matrices=False)
        assert np.allclose(np.abs(directions @ made.directions), np.eye(3), atol=1e-4)
        nearest = np.sqrt(((ranks[:, None] - made.centres) ** 2).sum(axis=2))
        assert np.allclose(X[:, 8:], nearest, atol=1e-3)

    def test_they_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        made = SharedFeatures.fit(frame(500), 0)
        made.save(tmp_path)
        fresh = frame(100, seed=1)
        assert np.array_equal(SharedFeatures.load(tmp_path).transform(fresh), made.transform(fresh), equal_nan=True)

    def test_a_damaged_file_is_refused(self, tmp_path: Path) -> None:
        made = SharedFeatures.fit(frame(500), 0)
        made.knots[0] = 1e9
        made.save(tmp_path)
        with pytest.raises(BadArtifact):
            SharedFeatures.load(tmp_path)

    @pytest.mark.parametrize("n_numeric", [0, 1])
    def test_few_columns_make_few_features(self, n_numeric: int) -> None:
        rows = frame(100)
        schema = FrameSchema(numeric=("a", "b")[:n_numeric], categorical=("u", "v"), n_categories=(4, 10))
        few = Frame(schema, rows.numbers[:, :n_numeric], rows.codes, rows.days)
        made = SharedFeatures.fit(few, 0)
        assert made.transform(few).shape == (100, 2 + n_numeric) and len(made.sources()) == 2 + n_numeric

    def test_many_rows_are_sampled_and_the_order_of_blocks_does_not_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from automl_cli.features import levels

        rows = frame(1_000)
        whole = SharedFeatures.fit(rows, 0)
        monkeypatch.setattr(levels, "BLOCK_CELLS", 300)
        parts = SharedFeatures.fit(rows, 0)
        assert np.allclose(whole.transform(rows), parts.transform(rows), atol=1e-5, equal_nan=True)
