"""``python -m automl_cli`` is the command ``automl``."""

from automl_cli.cli import main

if __name__ == "__main__":
    main()
