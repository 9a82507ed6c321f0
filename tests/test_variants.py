"""Variants of the pipelines that did best, in turn with the list."""

from hypothesis import given
from hypothesis import strategies as st

from automl_cli.optimizer import Variants
from automl_cli.optimizer.asktell import Optimizer, SpaceExhausted
from automl_cli.optimizer.variants import FIRST, MOST_SECONDS, MOST_WORSE
from automl_cli.trial import Pipeline

N_LISTED = 20
LISTED = [Pipeline("linear", "native", {"n": n}) for n in range(N_LISTED)]


class Other:
    """Has one pipeline and hears everything."""

    def __init__(self) -> None:
        self.told: list[Pipeline] = []
        self.asked = False

    def ask(self) -> tuple[Pipeline, str]:
        if self.asked:
            raise SpaceExhausted
        self.asked = True
        return Pipeline("linear", "native", {"n": -1}), "other"

    def tell(self, pipeline: Pipeline, loss: float | None, seconds: float) -> None:
        self.told.append(pipeline)


def vary(pipeline: Pipeline, kind: str) -> Pipeline | None:
    """Every other pipeline has variants of the second kind."""
    if kind == "second" and int(pipeline.hyperparameters["n"]) % 2:
        return None
    return Pipeline(pipeline.family, f"{pipeline.encoding}:{kind}", pipeline.hyperparameters)


def loss_of(pipeline: Pipeline, gain: float) -> float:
    """The list gets better towards its end; a variant gains, or loses, so much."""
    own = 1.0 - 0.01 * int(pipeline.hyperparameters["n"])
    return own - (gain if ":" in pipeline.encoding else 0.0)


def run_all(optimizer: Optimizer, gain: float, n: int = 200) -> list[Pipeline]:
    """Ask and tell until nothing is left."""
    asked: list[Pipeline] = []
    for _ in range(n):
        try:
            pipeline, _ = optimizer.ask()
        except SpaceExhausted:
            break
        asked.append(pipeline)
        optimizer.tell(pipeline, loss_of(pipeline, gain), 1.0)
    return asked


def test_the_best_of_the_list_have_their_variants_first_and_the_list_goes_on_beside() -> None:
    other = Other()
    asked = run_all(Variants(LISTED, LISTED, ("first", "second"), vary, other), gain=0.5)
    assert asked[:FIRST] == LISTED[:FIRST]
    assert asked[FIRST : FIRST + 5] == [
        vary(LISTED[FIRST - 1], "first"),
        LISTED[FIRST],
        LISTED[FIRST + 1],
        vary(LISTED[FIRST], "second"),
        LISTED[FIRST + 2],
    ]
    assert len(set(asked)) == len(asked)
    assert set(LISTED) < set(asked)
    varied = {Pipeline(p.family, "native", p.hyperparameters) for p in asked if ":" in p.encoding}
    assert set(LISTED[N_LISTED // 2 :]) <= varied
    assert not set(LISTED[: FIRST // 2]) & varied
    assert other.told == asked


def test_a_kind_that_only_loses_is_given_up() -> None:
    asked = run_all(Variants(LISTED, LISTED, ("first", "second"), vary, Other()), gain=-0.1)
    for kind in ("first", "second"):
        assert sum(p.encoding.endswith(kind) for p in asked) == MOST_WORSE
    assert set(LISTED) < set(asked)


def test_variants_that_take_long_get_a_part_of_the_seconds_where_a_clock_decides() -> None:
    optimizer = Variants(LISTED, LISTED, ("first", "second"), vary, Other(), timed=True)
    spent = {True: 0.0, False: 0.0}
    for _ in range(N_LISTED):
        pipeline, _ = optimizer.ask()
        seconds = 5.0 if ":" in pipeline.encoding else 1.0
        spent[":" in pipeline.encoding] += seconds
        optimizer.tell(pipeline, loss_of(pipeline, 0.5), seconds)
    assert 0.0 < spent[True] <= MOST_SECONDS * sum(spent.values()) + 5.0


def test_without_variants_it_is_the_list_and_the_other_one() -> None:
    asked = run_all(Variants(LISTED, LISTED, (), vary, Other()), gain=0.0)
    assert asked[:-1] == LISTED


def test_a_run_that_is_resumed_goes_on_with_variants_of_what_it_had_tried() -> None:
    before = LISTED[:FIRST]
    optimizer = Variants(LISTED[FIRST:], LISTED, ("first",), vary, Other())
    for pipeline in before:
        optimizer.tell(pipeline, 0.01, 1.0)
    asked = run_all(optimizer, gain=0.5)
    assert {vary(pipeline, "first") for pipeline in before} & set(asked)
    assert not set(asked) & set(before)


def test_what_a_search_found_before_is_not_varied() -> None:
    optimizer = Variants(LISTED, LISTED, ("first", "second"), vary, Other())
    found = [Pipeline("linear", "native", {"n": n}) for n in range(100, 120)]
    for pipeline in found:
        optimizer.tell(pipeline, 0.001, 1.0)
    asked = run_all(optimizer, gain=0.5)
    assert not {vary(pipeline, "first") for pipeline in found} & set(asked)


class Endless(Other):
    """Has as many pipelines as are wanted."""

    def ask(self) -> tuple[Pipeline, str]:
        self.n = getattr(self, "n", 1000) + 1
        return Pipeline("linear", "native", {"n": self.n}), "other"


def test_after_the_list_the_other_one_has_two_of_three() -> None:
    asked = run_all(Variants(LISTED[:6], LISTED[:6], ("first",), vary, Endless()), gain=0.5, n=12)
    assert [":" in pipeline.encoding for pipeline in asked[4:]] == [True, False, False] * 2 + [True, False]


@given(
    losses=st.lists(st.one_of(st.none(), st.floats(0, 1), st.just(float("nan"))), min_size=60, max_size=60),
    told=st.lists(st.integers(0, N_LISTED - 1), max_size=5),
    late=st.integers(1, 6),
)
def test_nothing_comes_twice_whatever_is_told_and_however_late(
    losses: list[float | None], told: list[int], late: int
) -> None:
    optimizer = Variants(LISTED, LISTED, ("first", "second"), vary, Other())
    before = [LISTED[n] for n in told]
    for pipeline in before:
        optimizer.tell(pipeline, 0.5, 1.0)
    asked: list[Pipeline] = []
    while True:
        try:
            asked.append(optimizer.ask()[0])
        except SpaceExhausted:
            break
        if len(asked) >= late:
            n = len(asked) - late
            optimizer.tell(asked[n], losses[n % len(losses)], 1.0)
    assert len(set(asked)) == len(asked)
    assert set(asked) | set(before) >= set(LISTED)
    assert not set(asked) & set(before)
