"""Which pipeline to try next, behind ask and tell: a portfolio, SMAC's surrogate, a bandit over families, chance."""

from automl_cli.optimizer.asktell import Optimizer, SpaceExhausted
from automl_cli.optimizer.bandit import Bandit
from automl_cli.optimizer.costs import expected_improvement, log_costs
from automl_cli.optimizer.portfolio import Portfolio
from automl_cli.optimizer.random import RandomSearch
from automl_cli.optimizer.smac import Smac, family_optimizer, load_smac
from automl_cli.optimizer.variants import Variants
from automl_cli.optimizer.ways import Ways

__all__ = [
    "Bandit",
    "Optimizer",
    "Portfolio",
    "RandomSearch",
    "Smac",
    "SpaceExhausted",
    "Variants",
    "Ways",
    "expected_improvement",
    "family_optimizer",
    "load_smac",
    "log_costs",
]
