"""Train a model from a config: read it, check it, build the components, train."""

import argparse
import dataclasses
import logging
import sys

from utils.cli.command_line import DEFAULT_CONFIG, Parser, add_overrides, report_mistake
from utils.cli.launcher import destroy_group, is_launched, launched_rank
from utils.cli.signals import StopSignals, exit_ignoring_signals
from utils.runs.run_lock import RunLock

logger = logging.getLogger("train")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` is answered before anything heavy is imported."""
    parser = Parser(description=__doc__ or "")
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", help=f"JSON or YAML file (default: {DEFAULT_CONFIG})")
    add(
        "-r", "--resume", metavar="PATH|auto",
        help="continue from a checkpoint, a run folder, or the latest run of this name (auto)",
    )  # fmt: skip
    add("-d", "--device", metavar="DEVICE", help="cpu, cuda, or GPU numbers such as 0 or 0,1")
    add_overrides(parser)
    add(
        "--find-lr", metavar="STEPS", type=int, nargs="?", const=100,
        help="raise the learning rate over STEPS (default: 100), plot the loss, suggest a "
        "learning rate, and exit",
    )  # fmt: skip
    add(
        "--print-config", action="store_true",
        help="check the config, print it with every default, and exit",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    arguments.words = sys.argv[1:] if argv is None else list(argv)
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code: 2 for a user's mistake, 1 for a failed training."""
    arguments = parse_arguments(argv)
    try:
        with StopSignals(said=launched_rank() == 0) as stop, RunLock() as lock:
            check_arguments(arguments)
            return train(arguments, stop, lock)
    except ValueError as error:  # ConfigError, DataError, CheckpointError: one message
        return report_mistake(error)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse what does not go together.

    Raises:
        ValueError: With what to do instead.
    """
    if arguments.find_lr is None:
        return
    if arguments.resume:
        raise ValueError("--find-lr begins with the weights of the config; leave out --resume")
    if arguments.find_lr < 10:
        raise ValueError(f"--find-lr {arguments.find_lr}: a curve needs at least 10 steps")
    if is_launched():
        raise ValueError("--find-lr runs in one process; leave out torchrun")


def train(arguments: argparse.Namespace, stop: StopSignals, lock: RunLock) -> int:
    """Read, check, build, open the run, train, finish; return the exit code.

    Raises:
        ValueError: For a mistake in config, data or command.
    """
    from training.resume import hold_run, read_inputs

    # Read
    inputs = read_inputs(arguments)

    # Heavy imports come after `read_inputs`, so that a wrong path fails without loading torch.
    from base.loader_stream import WorkerError
    from training import messages, run
    from training.lr_finder import find_rate
    from utils.cli.launcher import launch
    from utils.devices import resolve_training_device, restrict_visible_gpus

    # Check
    restrict_visible_gpus(arguments.device)
    config = run.check_inputs(inputs, arguments)
    if arguments.print_config:
        run.print_config(config)
        return 0

    # Start the processes, and hold the run folder
    device, n_gpu = resolve_training_device(arguments.device, config)
    if n_gpu > 1 and config.parallel == "DistributedDataParallel" and arguments.find_lr is None:
        return launch(n_gpu, __file__, arguments.words)
    run.start_logging_and_ranks(config, device)
    if not hold_run(inputs, lock):
        logger.info("%s has changed since it was read; reading it again", inputs.source)
        return train(arguments, stop, lock)

    # Build
    if arguments.find_lr is not None:
        # Constructing a schedule changes learning rates and momenta: the range test builds none.
        config = dataclasses.replace(config, lr_scheduler=None)
    try:
        components = run.build(config, inputs, device, n_gpu)
    except WorkerError as error:  # while class weights are counted
        logger.error("%s", error)
        return 1
    if arguments.find_lr is not None:
        return 0 if find_rate(config, components, arguments.find_lr) else 1

    # Open the run, train, finish
    with run.open_run(config, components, inputs, stop, lock) as trainer:
        try:
            result = trainer.train()
        except BaseException as error:
            return messages.report_failure(error, trainer.folder.path)
        messages.finish(trainer, result)
    destroy_group()
    return 0


if __name__ == "__main__":
    exit_ignoring_signals(main())
