"""The command line: ``fastgen evaluate | stats | demo | info``.

Exit status: 0 for success; 2 for bad input or a missing part, with one line on standard error;
130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fastgen._errors import BackendUnavailableError, fail
from fastgen.arrays import Rows2D, as_rows, check_values
from fastgen.backend import info, thread_count, version
from fastgen.demo import demo_rows, demo_table
from fastgen.metrics.catalogue import DEFAULT, METRICS
from fastgen.metrics.evaluate import CV, evaluate
from fastgen.moments import Moments
from fastgen.progress import Progress
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
        elif options.command == "stats":
            _stats(options)
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
            "Compare two sets of feature vectors: FID, kernel distances, precision, recall, "
            "density, coverage, log-likelihood, Inception Score."
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
    statistics = "for fid and is alone also the .npz file of statistics that stats writes"
    command.add_argument("real", metavar="REAL", help=f"the real set: {file}; {statistics}")
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
        "--logits",
        metavar="FILE",
        help="a classifier's answers to generated images before the softmax, [rows, classes], for "
        "is",
    )
    command.add_argument(
        "--probabilities", metavar="FILE", help="or its answers after the softmax, likewise"
    )
    command.add_argument(
        "--json", type=Path, metavar="OUT", help="also write the results to this file"
    )
    _add_threads(command)
    command.add_argument(
        "--device",
        metavar="DEVICE",
        help="where to compute: cpu, cuda, cuda:1, or cuda:all for every GPU (default: cpu)",
    )
    command.add_argument(
        "--memory", metavar="SIZE", help='working memory to stay within, for example "4GB"'
    )

    command = commands.add_parser(
        "stats",
        help="write the mean and the covariance of features, for fid",
        description="Write mean, covariance and number of rows of features to a .npz file, which "
        "evaluate takes in their place for fid.",
    )
    command.add_argument(
        "features", nargs="+", metavar="FEATURES", help=f"the rows, from one file or more: {file}"
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help='the .npz file to write, with "mu" and "sigma" as pytorch-fid has them, and "count"',
    )
    _add_threads(command)

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
    if out is not None:
        _check_output("evaluate", "--json", out)
    answers = {"logits": options.logits, "probabilities": options.probabilities}
    with warnings.catch_warnings(record=True) as caught:
        reports = evaluate(
            real=options.real,
            fake=options.fake,
            metrics=options.metrics,
            k=options.k,
            ties=options.ties,
            bandwidth=options.bandwidth,
            **answers,
            threads=options.threads,
            device=options.device,
            memory=options.memory,
            progress=sys.stderr.isatty(),
        )
    for warning in caught:
        # Without the line of our source that Python would add: it tells the user nothing.
        _complain(f"warning: {warning.message}", OK)
    sources = {"real": options.real, "fake": options.fake}
    if out is not None:
        place = {"threads": options.threads, "device": options.device}
        text = evaluation_json(reports, **sources, info=info(), **place, **answers)
        out.write_text(text, encoding="utf-8")
    print_table(evaluation_table(reports, **sources))


def _stats(options: argparse.Namespace) -> None:
    paths: list[str] = options.features
    out: Path = options.output
    _check_output("stats", "--output", out)
    threads = thread_count("stats", options.threads)

    @functools.lru_cache(maxsize=1)  # one file is read once, and of several not all are kept
    def opened(path: str) -> Rows2D:
        return as_rows("stats", path, path, values=False)

    shapes = [opened(path).shape for path in paths]  # of all files, before the work
    d = shapes[0][1]
    for path, shape in zip(paths, shapes, strict=True):
        file = Path(path) if Path(path).exists() else Path(path.rpartition(":")[0])
        if out.exists() and out.samefile(file):
            fail("stats", "--output", "to be another file than the features", repr(str(out)))
        if shape[1] != d:
            fail("stats", path, f"with d = {d} columns like `{paths[0]}`", f"shape {shape}")
    count = sum(n for n, _ in shapes)
    if count < 2:
        hint = "a single row has no covariance"
        fail("stats", "FEATURES", "with at least 2 rows", str(count), hint)

    moments = Moments(d, threads=threads)
    with Progress("stats", sys.stderr.isatty()) as display:
        display.expect(float(count) * d)
        for path in paths:
            check_values("stats", path, opened(path), threads)
            moments.take(opened(path), functools.partial(display.update, float(opened(path).size)))
    moments.save(out)
    print(f"{out}: {count} rows, {d} features")


def _check_output(function: str, argument: str, out: Path) -> None:
    """Tell now, not after minutes of work, that nothing can be written there."""
    if out.is_dir() or not out.parent.is_dir():
        fail(function, argument, "to be a file in an existing directory", repr(str(out)))


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
