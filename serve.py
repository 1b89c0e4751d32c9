"""Answer images by HTTP: `python serve.py --model best_model.pth --port 8000`."""

import argparse
import sys
from collections.abc import Sequence

from serving.options import parse_arguments
from utils.cli.command_line import end_after_failed_output, report_mistake
from utils.cli.launcher import refuse_several


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    arguments = parse_arguments(argv)
    try:
        refuse_several()
        return run(arguments)
    except ValueError as error:
        return report_mistake(error, "serve.py")
    except KeyboardInterrupt:  # while the models are loaded
        return 130
    except OSError as error:
        return end_after_failed_output(error)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes.

    Raises:
        ValueError: If something cannot be used; most of it is found before torch is loaded.
    """
    from serving.model_names import name_models
    from serving.run import check, serve

    files = name_models(arguments.model)
    limits, token, listener = check(arguments)
    with listener:
        serve(arguments, files, limits, token, listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
