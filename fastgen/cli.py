"""The command line: ``fastgen evaluate | demo | info``.

Exit status: 0 for success; 2 for bad input or a missing part, with one line on standard error;
130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fastgen._errors import BackendUnavailableError, fail
from fastgen.backend import info, version
from fastgen.demo import demo_rows, demo_table
from fastgen.metrics.evaluate import CV, DEFAULT, METRICS, evaluate
from fastgen.report import (
    evaluation_json,
    evaluation_table,
    info_table,
    print_table,
    require_rich,
)

OK = 0
BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

# What the library raises for input that it cannot use; anything else is a bug and keeps its trace.
_USER_ERRORS = (ValueError, TypeError, OSError, MemoryError, BackendUnavailableError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str or None, default None
        What follows the program's name; None takes it from the process.

    Returns
    -------
    int
        The exit status.

    Raises
    ------
    SystemExit
        With status 2 for a wrong command line, and 0 for ``--help`` and ``--version``.

    Examples
    --------
    >>> from fastgen.cli import main
    >>> main(["evaluate", "missing.npy", "missing.npy"])
    2
    """
    try:
        options = _parser().parse_args(arguments)
        require_rich()
        if options.command == "evaluate":
            _evaluate(options)
        elif options.command == "demo":
            print_table(demo_table(demo_rows(k=options.k, threads=options.threads), k=options.k))
        else:
            print_table(info_table(info()))
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except _USER_ERRORS as error:
        return _complain(f"error: {str(error) or type(error).__name__}", BAD_INPUT)
    return OK


class _Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_complain(f"error: {message}; see {self.prog} --help", BAD_INPUT))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastgen",
        description=(
            "Compare two sets of feature vectors: kernel distances, precision, recall, density, "
            "coverage, log-likelihood."
        ),
    )
    parser.add_argument("--version", action="version", version=f"fastgen {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "evaluate",
        help="compare two files of features",
        description="Compare a real and a generated set of features, stored as [rows, features].",
    )
    file = "a .npy file, or a .npz file (FILE.npz:KEY where it holds several arrays)"
    command.add_argument("real", metavar="REAL", help=f"the real set: {file}")
    command.add_argument("fake", metavar="FAKE", help="the generated set, likewise")
    command.add_argument(
        "--metrics",
        type=_names,
        metavar="NAME,...",
        help=f"which metrics, of {', '.join(METRICS)} (default: {', '.join(DEFAULT)})",
    )
    command.add_argument(
        "--k",
        type=_counts,
        default=[5],
        metavar="K,...",
        help="which nearest neighbour sets a radius, for prdc and precision_recall; several give "
        "a column each (default: 5)",
    )
    command.add_argument(
        "--ties",
        choices=["closed", "open"],
        default="closed",
        help="whether a point at exactly the radius is inside (default: closed)",
    )
    command.add_argument(
        "--bandwidth",
        type=_bandwidth,
        default=CV,
        metavar="B",
        help="of the density of the fake rows, for kde: cv (cross-validation), scott, silverman or "
        "a number (default: cv)",
    )
    command.add_argument(
        "--json", type=Path, metavar="OUT", help="also write the results to this file"
    )
    _add_threads(command)
    command.add_argument(
        "--memory", metavar="SIZE", help='working memory to stay within, for example "4GB"'
    )

    command = commands.add_parser(
        "demo",
        help="score generators of handwritten digits",
        description="Score generators fitted to the handwritten digits that scikit-learn ships.",
    )
    command.add_argument("--k", type=int, default=5, metavar="K", help="neighbours (default: 5)")
    _add_threads(command)

    commands.add_parser("info", help="show what fastgen can use on this machine")
    return parser


def _add_threads(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threads", type=int, metavar="N", help="default: every CPU this process may run on"
    )


def _evaluate(options: argparse.Namespace) -> None:
    out: Path | None = options.json
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        # Told now, not after minutes of work.
        fail("evaluate", "--json", "to be a file in an existing directory", repr(str(out)))
    with warnings.catch_warnings(record=True) as caught:
        reports = evaluate(
            real=options.real,
            fake=options.fake,
            metrics=options.metrics,
            k=options.k,
            ties=options.ties,
            bandwidth=options.bandwidth,
            threads=options.threads,
            memory=options.memory,
            progress=sys.stderr.isatty(),
        )
    for warning in caught:
        # Without the line of our source that Python would add: it tells the user nothing.
        _complain(f"warning: {warning.message}", OK)
    sources = {"real": options.real, "fake": options.fake}
    if out is not None:
        text = evaluation_json(reports, **sources, info=info(), threads=options.threads)
        out.write_text(text, encoding="utf-8")
    print_table(evaluation_table(reports, **sources))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _bandwidth(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text  # perhaps the name of a rule: `evaluate` knows them


def _counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers separated by commas, got {text!r}"
        ) from None


def _complain(text: str, status: int) -> int:
    print("fastgen:", " ".join(text.split()), file=sys.stderr)
    return status
