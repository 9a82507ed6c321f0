"""What proposes pipelines in a fit: past winners, what did well on similar tables, the portfolio, then a search."""

import math
from collections.abc import Callable, Sequence

from automl_cli.background import Background
from automl_cli.clock import Deadline
from automl_cli.experience.records import Recalled
from automl_cli.job import Job
from automl_cli.nas import AUTO, known_networks, make_strategy, network_search
from automl_cli.neural import NEURAL
from automl_cli.optimizer import Bandit, Optimizer, Portfolio, RandomSearch, Smac, Variants, Ways, family_optimizer
from automl_cli.options import FitOptions
from automl_cli.parts import Part
from automl_cli.patience import RECALLED, WINNER
from automl_cli.plan import SHORTEST_FOR_SMAC
from automl_cli.search import LAG, Rules
from automl_cli.space import build_space, default_pipelines, to_configuration, to_pipeline, variant_of, ways_of
from automl_cli.transfer.adaptation import split_name
from automl_cli.trial import Pipeline
from automl_cli.warmstart import MOST_ASKING, SHORTEST_LIMIT, Memory, winners_of

ROUNDS = 2  # times the portfolio's length are handed out where there are several ways of using other rows
MOST_KNOWN = 8  # of the portfolio, where there are winners to search around
BEFORE_NETWORKS, MOST_EARLY = 3, 2  # recalled pipelines before the networks of the portfolio, and of these
LOADING_SECONDS = 8.0  # between two busy workers; SMAC takes one of a core
FIRST_SECONDS = 3.0  # of a list, which tell nothing: workers' queues are filled at once
FEW_LEFT = 4
MOST_LOOKING = 6.0  # seconds that a search waits for what past runs say, once the portfolio has come to its end


def proposer(
    options: FitOptions,
    job: Job,
    deadline: Deadline,
    memory: Memory,
    recalling: Background[Recalled],
    learner: Background[Optimizer],
) -> Optimizer:
    """Return what proposes: what won on this table before, what did well on tables like it, the portfolio, a search.

    Looking up what did well takes a second or more, in which the first pipelines of the portfolio run.
    """
    known = _first(options, job, deadline)
    if Part.PORTFOLIO in options.without or not memory.asked:
        return _tried_first(known, job, learner, deadline)
    wait = MOST_ASKING if deadline.limited else math.inf
    winners = winners_of(memory, job, resume=options.resume, wait=wait)

    def after_the_first() -> Optimizer:
        found = recalling.result_within(MOST_LOOKING if deadline.limited else math.inf)
        recalled = found or Recalled()
        # the look-up finds what won even where the store was opened too late for `winners_of`
        won = tuple(dict.fromkeys((*winners, *recalled.winners)))
        # which knows more than names of columns: another table may have them, too
        rest = _worth_trying(known, recalled, won=bool(won if found is None else recalled.winners))
        if job.shape.adaptations:
            return _tried_first([*won, *recalled.pipelines, *rest], job, learner, deadline)
        return Portfolio(won, _in_turn(recalled.pipelines, rest, learner, deadline), origin=WINNER)

    if deadline.limited and deadline.total < SHORTEST_LIMIT:  # looking up would be worth less than what it takes
        return Portfolio(winners, _tried_first(known, job, learner, deadline), origin=WINNER)
    if deadline.limited:  # nobody is idle while past runs are looked up
        return Portfolio(winners, Portfolio(known, after_the_first, until=recalling.done), origin=WINNER)
    # where trials are counted, a number that no number of workers changes
    return Portfolio(winners, Portfolio(known[:LAG], after_the_first), origin=WINNER)


def _in_turn(
    borrowed: Sequence[Pipeline], rest: Sequence[Pipeline], learner: Background[Optimizer], deadline: Deadline
) -> Optimizer:
    """Return what hands out recalled pipelines, then the portfolio, then asks the learner.

    Past runs seldom had networks, which take long and add most to an ensemble of boosters: they do not wait for the end
    of what was recalled.
    """
    first, later = borrowed[:BEFORE_NETWORKS], borrowed[BEFORE_NETWORKS:]
    networks = [pipeline for pipeline in rest if pipeline.family == NEURAL][:MOST_EARLY]
    others = Portfolio(
        [pipeline for pipeline in rest if pipeline not in networks], learner.result, left=loading_of(learner, deadline)
    )
    return Portfolio(first, Portfolio(networks, Portfolio(later, others, origin=RECALLED)), origin=RECALLED)


def loading_of(learner: Background[Optimizer], deadline: Deadline) -> Callable[[int], None]:
    """Return what hears how many of a list are left, and begins to load the learner while the last of them are tried.

    Loading takes a second of a core and 50 MB, and many a short run ends before it gets to the learner.
    """
    first: list[tuple[float, int]] = []

    def hear(left: int) -> None:
        now = deadline.elapsed()
        if not first:
            first.append((now, left))
        began, most = first[0]
        rate = (most - left) / (now - began) if now - began >= FIRST_SECONDS else 0.0
        if left < most and (not deadline.limited or left <= max(FEW_LEFT, LOADING_SECONDS * rate)):
            learner.begin()

    return hear


def _worth_trying(known: Sequence[Pipeline], recalled: Recalled, *, won: bool) -> list[Pipeline]:
    """Return what is left of the portfolio on a table that was learned before.

    What was no better than LightGBM's default on it is left out, and where something won, only the beginning is tried,
    so that the search around the winners begins early. The first of each family stays: an ensemble gains from members
    that err differently.
    """
    first = set({pipeline.family: pipeline for pipeline in reversed(known)}.values())
    poor = set(recalled.poor) - first
    rest = [pipeline for pipeline in known if pipeline not in poor]
    return [pipeline for i, pipeline in enumerate(rest) if not won or i < MOST_KNOWN or pipeline in first]


def _tried_first(
    pipelines: Sequence[Pipeline], job: Job, learner: Background[Optimizer], deadline: Deadline
) -> Optimizer:
    """Return what hands out pipelines that are known to be good, then asks the learner.

    Where there are other rows, there are ways of using them. Each way of using a source has these pipelines; a bandit
    shares the trials among the ways, which differ much. Rows without labels are used by pipelines that do well alone.
    """
    loading = loading_of(learner, deadline)
    if not job.shape.adaptations:
        return Portfolio(pipelines, learner.result, left=loading)
    if job.data.unlabelled is not None:

        def vary(pipeline: Pipeline, way: str) -> Pipeline | None:
            return variant_of(pipeline, way, job.families)

        listed, kinds = {*pipelines, *default_pipelines(job.families, job.shape)}, job.shape.adaptations
        return Variants(pipelines, listed, kinds, vary, learner.result, timed=deadline.limited, left=loading)
    lists = ways_of(pipelines, job.families, job.shape)
    most = ROUNDS * len(pipelines)
    return Ways(lists, way_of, most, learner.result, timed=deadline.limited, left=loading)


def way_of(pipeline: Pipeline) -> str:
    """Return how a pipeline uses other rows; empty where it does not."""
    return split_name(pipeline.encoding)[1]


def _first(options: FitOptions, job: Job, deadline: Deadline) -> list[Pipeline]:
    """Return the portfolio; of a timed run that is resumed, what it has not tried yet.

    Where there are networks, of their weaker relatives, which take as long, one is enough.
    """
    tried = {trial.proposal.pipeline for trial in job.recorded.values()} if deadline.limited else set()
    known = default_pipelines(job.families, job.shape)
    if NEURAL in job.families:
        perceptrons = [pipeline for pipeline in known if pipeline.family == "mlp"]
        known = tuple(pipeline for pipeline in known if pipeline not in perceptrons[1:])
    return [p for p in (known[:1] if Part.PORTFOLIO in options.without else known) if p not in tried]


def _networks(options: FitOptions, job: Job, deadline: Deadline) -> Optimizer:
    """Return what searches networks: a strategy that was named, or a bandit among them.

    A look at a share of a training is a trial as well: where trials are counted, or other families have most of the
    time, networks are trained in whole.
    """
    name, known = options.nas or AUTO, known_networks(job.families[NEURAL].defaults(job.shape))
    looks = deadline.limited and set(job.families) == {NEURAL}
    return network_search(
        job.families[NEURAL],
        job.shape,
        lambda space, fits: make_strategy(name, space, seed=options.seed, fits=fits, earlier=known, looks=looks),
        n_folds=len(job.plan.folds),
        seconds=(lambda: Rules.share * deadline.seconds_left()) if deadline.limited else None,
    )


def learner_of(options: FitOptions, job: Job, deadline: Deadline) -> Optimizer:
    """Return what proposes after the portfolio."""
    families, shape = job.families, job.shape
    if set(families) == {NEURAL} and not options.without & {Part.SMAC, Part.BANDIT}:
        return _networks(options, job, deadline)
    short = deadline.limited and deadline.total < SHORTEST_FOR_SMAC
    if Part.SMAC in options.without or (short and not options.networks_wanted):
        return RandomSearch(build_space(families, shape), to_pipeline, seed=options.seed)
    if Part.BANDIT in options.without:
        return Smac(build_space(families, shape), to_pipeline, to_configuration, seed=options.seed)
    arms: dict[str, Optimizer] = {
        name: family_optimizer(build_space({name: family}, shape), to_pipeline, to_configuration, seed=options.seed)
        for name, family in families.items()
        if family.offered(shape)
    }
    if NEURAL in arms:
        arms[NEURAL] = _networks(options, job, deadline)
    # Seconds may decide only where the run is not reproducible anyway.
    return Bandit(arms, timed=deadline.limited)
