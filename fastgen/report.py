"""Results for people (a table) and for programs (JSON).

The JSON document of ``fastgen evaluate --json`` is an object with these members; a later release
may add members, and changes the schema's number if it removes one or changes its meaning::

    {
      "schema": "fastgen.evaluate/4",
      "version": "0.1.0",                 version of fastgen
      "instruction_set": "avx512vnni",    what the distances were computed with
      "threads": 2,                       default number of threads, or the one asked for
      "device": null,                     as given with --device; null: the CPU
      "real": "real.npy",                 the paths as given, ":key" included
      "fake": "fake.npz:features",
      "logits": null,                     of the classifier's answers that "is" took, likewise
      "probabilities": "answers.npy",
      "reports": [                        one per value of --k, in the order given
        {
          "metrics": {                    one member per value of --metrics
            "fid": {"value": 3.1, "error_bound": 2e-12, "mean_term": 0.9, "covariance_term": 2.2,
                    "method": "eigh"},
            "kid": {"mean": 0.012, "std": 0.0004},      the full sample; std: standard error
            "mmd": {"value": 0.012, "standard_error": 0.0004, "p_value": null,
                    "n": 1000, "m": 900},
            "cmmd": {"value": 0.61, "standard_error": 0.02, "p_value": null,
                     "n": 1000, "m": 900},
            "prdc": {"precision": 0.9, "recall": 0.8, "density": 1.0, "coverage": 0.9},
            "precision_recall": {"precision": 0.9, "recall": 0.8, "f_score": 0.847},
            "kde": {"mean": -83.1, "standard_error": 0.2, "bits_per_dim": 1.87},
            "is": {"mean": 9.1, "std": 0.2, "sharpness": 0.04, "diversity": 2.3}
          },
          "n": 1000,                      rows of the real set, or that its statistics stand for
          "m": 900,                       rows of the fake set, likewise
          "d": 64,                        features of a row
          "k": 5,                         neighbours that set a radius
          "ties": "closed",               or "open"
          "bandwidth": 0.93,              of kde, given or chosen
          "seconds": {"kid": 0.1, "mmd": 0.0, ...}    by metric; shared work counts once
        }
      ]
    }

"n" and "m" are null for statistics that do not tell it, as pytorch-fid's; "k" and "ties" where no
metric asked for uses radii (prdc and precision_recall do); "bandwidth" without kde; "logits" and
"probabilities" where they are not given. Every number is finite and written so that reading it
gives the same float64 back; what has no finite value, such as a standard error of fewer than 4
rows, is null.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from typing import Any

from fastgen._errors import BackendUnavailableError
from fastgen.results import (
    KID,
    MMD,
    Frechet,
    InceptionScore,
    Info,
    LogLikelihood,
    Report,
    Result,
)

SCHEMA = "fastgen.evaluate/4"

_NOTES = {
    "fid": "fid: at n = {n}, m = {m}: it falls with the number of rows; compare at equal sizes",
    "kid": "kid: full sample; std is the standard error",
    "mmd": "mmd: squared, unbiased, with the kernel of kid",
    "cmmd": "cmmd: times 1000; made for CLIP embeddings",
    "kde": "kde: log-density of the real rows under the fake ones, in nats",
    "is": "is: 10 splits of the classifier's answers; it knows nothing of the real set",
}
_IN_TITLE = ("n", "m")

# Where output is not a terminal no width is right; this one folds no table of ours.
FILE_WIDTH = 200


@dataclass(frozen=True)
class Table:
    """A table ready to be shown.

    Attributes
    ----------
    title : str
        One line above it.
    columns : sequence of str
        Headings. All columns but the first `labels` ones are aligned to the right.
    rows : sequence of sequences of str
        Cells, as many in a row as there are columns.
    labels : int
        Number of columns of text.
    notes : sequence of str
        Lines below it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1
    notes: Sequence[str] = ()


def require_rich() -> None:
    """Check that the command line's one dependency is installed.

    Raises
    ------
    BackendUnavailableError
        If rich is missing; the message has the pip command.
    """
    if importlib.util.find_spec("rich") is None:
        raise BackendUnavailableError(
            "expected rich to be installed, for tables and progress bars; "
            "run: pip install 'fastgen[cli]'"
        )


def print_table(table: Table) -> None:
    """Print a table to standard output.

    Parameters
    ----------
    table : Table
        What to print.

    Raises
    ------
    BackendUnavailableError
        If rich is not installed.
    """
    require_rich()
    import rich.box
    import rich.console
    import rich.table
    import rich.text

    console = rich.console.Console(
        width=None if sys.stdout.isatty() else FILE_WIDTH, highlight=False, soft_wrap=False
    )
    drawn = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False
    )
    for place, heading in enumerate(table.columns):
        left = place < table.labels
        drawn.add_column(rich.text.Text(heading), justify="left" if left else "right")
    for row in table.rows:
        drawn.add_row(*(rich.text.Text(cell) for cell in row))
    # Text, not markup: a path may hold square brackets.
    console.print(rich.text.Text(table.title), style="bold")
    console.print()
    console.print(drawn)
    if table.notes:
        console.print()
        for note in table.notes:
            console.print(rich.text.Text(note), style="dim")


def evaluation_table(reports: Sequence[Report], *, real: str, fake: str) -> Table:
    """Lay out what ``fastgen evaluate`` prints: a row per value, a column per k.

    Parameters
    ----------
    reports : sequence of Report
        Results of the same two sets, one per k; at least one.
    real, fake : str
        Where the sets came from.

    Returns
    -------
    Table
        Shares of rows with four decimals, kernel distances with four significant digits, Frechet
        distances, Inception Scores and log-likelihoods with six, bounds of errors with one, rounded
        up; "-" for what cannot be computed. One column where nothing depends on k.

    Examples
    --------
    >>> from fastgen import PRDC, Report
    >>> from fastgen.report import evaluation_table
    >>> prdc = PRDC(precision=1.0, recall=0.5, density=1.25, coverage=0.75)
    >>> sizes = {"n": 4, "m": 2, "d": 8, "k": 1, "ties": "closed", "bandwidth": None}
    >>> report = Report({"prdc": prdc}, **sizes, seconds={"prdc": 0.1})
    >>> evaluation_table([report], real="r.npy", fake="f.npy").rows[1]
    ['prdc', 'recall', '0.5000']
    """
    first = reports[0]
    shown = reports if first.k is not None else reports[:1]
    rows = [
        [metric, value, *(_cell(report.metrics[metric], value) for report in shown)]
        for metric, result in first.metrics.items()
        for value, number in result.to_dict().items()
        if number is not None and value not in _IN_TITLE
    ]
    seconds = sum(sum(report.seconds.values()) for report in reports)
    n, m = ("unknown" if size is None else str(size) for size in (first.n, first.m))
    notes = [_NOTES[metric].format(n=n, m=m) for metric in first.metrics if metric in _NOTES]
    last = [f"{seconds:.2f} s"]
    if first.bandwidth is not None:
        last.insert(0, f"bandwidth: {first.bandwidth:.4g}")
    if first.ties is not None:
        last.insert(0, f"ties: {first.ties}")
    return Table(
        title=f"real: {real} ({n} x {first.d})   fake: {fake} ({m} x {first.d})",
        columns=["metric", "value", *(_heading(report) for report in shown)],
        rows=rows,
        labels=2,
        notes=[*notes, "; ".join(last)],
    )


def evaluation_json(
    reports: Sequence[Report],
    *,
    real: str,
    fake: str,
    info: Info,
    threads: int | None = None,
    device: str | None = None,
    logits: str | None = None,
    probabilities: str | None = None,
) -> str:
    """Write the JSON document described at the top of this module.

    Parameters
    ----------
    reports : sequence of Report
        Results of the same two sets, one per k.
    real, fake : str
        Where the sets came from.
    info : Info
        What fastgen ran on.
    threads : int or None, default None
        Number of threads that was asked for; None means the default in `info`.
    device : str or None, default None
        Where it was asked to be computed; None means the CPU.
    logits, probabilities : str or None, default None
        Where a classifier's answers came from.

    Returns
    -------
    str
        The document, ending in a line break.

    Examples
    --------
    >>> import json
    >>> from fastgen import PRDC, Report, info
    >>> from fastgen.report import evaluation_json
    >>> prdc = PRDC(precision=1.0, recall=0.5, density=1.25, coverage=0.75)
    >>> sizes = {"n": 4, "m": 2, "d": 8, "k": 1, "ties": "closed", "bandwidth": None}
    >>> report = Report({"prdc": prdc}, **sizes, seconds={"prdc": 0.1})
    >>> text = evaluation_json([report], real="r.npy", fake="f.npy", info=info())
    >>> json.loads(text)["reports"][0]["metrics"]["prdc"]["density"]
    1.25
    """
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "version": info.version,
        "instruction_set": info.instruction_set,
        "threads": info.threads if threads is None else threads,
        "device": device,
        "real": real,
        "fake": fake,
        "logits": logits,
        "probabilities": probabilities,
        "reports": [_finite(report.to_dict()) for report in reports],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def info_table(info: Info) -> Table:
    """Lay out what ``fastgen info`` prints.

    Parameters
    ----------
    info : Info
        The result of `fastgen.info`.

    Returns
    -------
    Table
        One row per fact.

    Examples
    --------
    >>> from fastgen import info
    >>> from fastgen.report import info_table
    >>> [row[0] for row in info_table(info()).rows]
    ['instruction set', 'usable here', 'threads', 'GPUs']
    """
    return Table(
        title=f"fastgen {info.version}",
        columns=["what", "value"],
        rows=[
            ["instruction set", info.instruction_set],
            ["usable here", ", ".join(info.instruction_sets)],
            ["threads", str(info.threads)],
            ["GPUs", ", ".join(info.gpus) or "none"],
        ],
        labels=2,
        notes=["FASTGEN_ISA forces an instruction set, FASTGEN_NUM_THREADS the threads."],
    )


def _heading(report: Report) -> str:
    return "result" if report.k is None else f"k = {report.k}"


def _cell(result: Result, name: str) -> str:
    value = result.to_dict()[name]
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "-"
    if name == "error_bound":
        # Upwards: a bound that is rounded down is none.
        one_digit = Context(prec=1, rounding=ROUND_CEILING).create_decimal_from_float(value)
        return f"{one_digit:e}"
    if isinstance(result, (Frechet, InceptionScore, LogLikelihood)):
        return f"{value:.6g}"
    return f"{value:.4g}" if isinstance(result, (KID, MMD)) else f"{value:.4f}"


def _finite(value: Any) -> Any:
    """Put None in the place of every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
