"""From a CSV to a model in one command."""

__version__ = "0.1.0"
