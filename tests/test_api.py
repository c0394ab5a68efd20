"""The public functions as a caller sees them: names, defaults, results, options."""

from __future__ import annotations

import dataclasses
import inspect
import json

import families
import numpy as np
import pytest
from checks import assert_same_bits

import fastgen
from fastgen import numpy_reference, pairwise, progress, session

# Take `k`, and `real` and `fake`; the others have tests of their own in test_kernel_metrics.py.
METRICS = ("prdc", "precision_recall", "membership", "evaluate")
DENSITIES = ("log_density", "select_bandwidth", "heldout_log_likelihood")
FUNCTIONS = ("knn_radii", "nearest", *METRICS, "mmd", "kid", "cmmd", *DENSITIES)
OPTIONS = {"threads": None, "device": None, "progress": False, "memory": None}


@pytest.fixture
def real():
    return families.relu(families.seeded("api"), 120, 20, "float32")[0]


@pytest.fixture
def fake():
    return families.relu(families.seeded("api"), 120, 20, "float32")[1]


# --- signatures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_match_the_reference_and_add_the_options(name):
    ours = inspect.signature(getattr(fastgen, name)).parameters
    theirs = inspect.signature(getattr(numpy_reference, name)).parameters
    assert list(ours) == [*theirs, *OPTIONS]
    for parameter in theirs:
        assert ours[parameter].default == theirs[parameter].default
        assert ours[parameter].kind == theirs[parameter].kind
    for option, default in OPTIONS.items():
        assert ours[option].default is default
        assert ours[option].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_have_every_section_and_parameter(name):
    function = getattr(fastgen, name)
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text
    for parameter in inspect.signature(function).parameters:
        assert f"\n{parameter} : " in text


# --- results --------------------------------------------------------------------------------------


def test_types_of_results(real, fake):
    radii = fastgen.knn_radii(real)
    assert radii.dtype == np.float64
    assert radii.shape == (120,)
    found = fastgen.nearest(real, fake, k=3)
    assert found.distances.dtype == np.float64
    assert found.indices.dtype == np.int64
    assert found.distances.shape == found.indices.shape == (120, 3)
    found = fastgen.membership(real=real, fake=fake)
    shapes = {"fake_in_real": 96, "real_in_fake": 120, "fake_counts": 96, "realism": 96}
    dtypes = {"fake_in_real": bool, "real_in_fake": bool, "fake_counts": "i8", "realism": "f8"}
    for name, rows in shapes.items():
        assert getattr(found, name).shape == (rows,)
        assert getattr(found, name).dtype == dtypes[name]
    for result in (
        fastgen.prdc(real=real, fake=fake),
        fastgen.precision_recall(real=real, fake=fake),
        fastgen.kid(real=real, fake=fake),
        fastgen.kid(real=real, fake=fake, subsets=2, subset_size=9),
        fastgen.heldout_log_likelihood(real, fake, 4.0),
    ):
        for field in dataclasses.fields(result):
            assert type(getattr(result, field.name)) is float
    for result in (
        fastgen.mmd(real, fake, permutations=3),
        fastgen.mmd(real, fake, estimator="biased"),
        fastgen.cmmd(real=real, fake=fake),
    ):
        types = [type(getattr(result, field.name)) for field in dataclasses.fields(result)]
        p_value = type(None) if result.p_value is None else float
        assert types == [float, float, p_value, int, int]
        assert (result.n, result.m) == (120, 96)


def test_results_agree_with_each_other(real, fake):
    member = fastgen.membership(real=real, fake=fake, k=4)
    prdc = fastgen.prdc(real=real, fake=fake, k=4)
    both = fastgen.precision_recall(real=real, fake=fake, k=4)
    assert prdc.precision == both.precision == member.fake_in_real.mean()
    assert prdc.recall == both.recall == member.real_in_fake.mean()
    assert prdc.density == member.fake_counts.sum() / (4 * len(fake))
    harmonic = 2 * both.precision * both.recall / (both.precision + both.recall)
    assert both.f_score == harmonic
    distances = fastgen.nearest(real, k=4).distances
    assert_same_bits(fastgen.knn_radii(real, 4), np.ascontiguousarray(distances[:, 3]))


def test_sets_that_share_nothing_score_zero(real, fake):
    found = fastgen.precision_recall(real=real, fake=fake + 1e4)
    assert found == fastgen.PrecisionRecall(0.0, 0.0, 0.0)
    assert fastgen.prdc(real=real, fake=fake + 1e4) == fastgen.PRDC(0.0, 0.0, 0.0, 0.0)


def test_a_set_against_itself(real):
    found = fastgen.prdc(real=real, fake=real)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)
    assert np.all(fastgen.nearest(real, real).distances == 0)
    assert np.all(fastgen.nearest(real).distances > 0)


def all_results(real, fake):
    yield fastgen.nearest(real, fake, k=2)
    for name in METRICS:
        yield getattr(fastgen, name)(real=real, fake=fake)
    yield fastgen.mmd(real, fake)
    yield fastgen.kid(real=real, fake=fake)
    yield fastgen.cmmd(real=real, fake=fake)
    yield fastgen.select_bandwidth(fake, [2.0, 4.0])
    yield fastgen.heldout_log_likelihood(real, fake, 4.0)
    yield fastgen.info()


def test_results_are_frozen_and_become_dicts(real, fake):
    for result in all_results(real, fake):
        names = [field.name for field in dataclasses.fields(result)]
        plain = result.to_dict()
        assert list(plain) == names
        assert json.loads(json.dumps(plain)) == plain
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, names[0], None)


def test_dicts_hold_the_values(real, fake):
    found = fastgen.membership(real=real, fake=fake)
    plain = found.to_dict()
    for name, values in plain.items():
        assert_same_bits(np.array(values), getattr(found, name))
    assert type(plain["fake_in_real"][0]) is bool
    assert type(plain["fake_counts"][0]) is int


def test_results_are_the_callers_own(real, fake):
    radii = fastgen.knn_radii(real, k=[1, 2])
    neighbours = fastgen.nearest(real, k=[1, 2])
    members = fastgen.membership(real=real, fake=fake, k=[1, 2])
    for array in (radii[0], neighbours[0].indices, members[0].realism, members[0].fake_counts):
        before = radii[1].copy(), neighbours[1].indices.copy(), members[1].realism.copy()
        array[:] = 0
        assert_same_bits((radii[1], neighbours[1].indices, members[1].realism), before)


# --- k --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ks", [[3], [3, 1, 3], (2, 5), range(1, 4), np.array([4, 2]), [np.int32(2), 7]]
)
def test_sequences_of_k_give_lists(real, fake, ks):
    assert_same_bits(fastgen.knn_radii(real, ks), [fastgen.knn_radii(real, k) for k in ks])
    for y in (None, fake):
        expected = [fastgen.nearest(real, y, int(k)) for k in ks]
        assert_same_bits(fastgen.nearest(real, y, ks), expected)
    for name in ("prdc", "precision_recall", "membership"):
        metric = getattr(fastgen, name)
        expected = [metric(real=real, fake=fake, k=k) for k in ks]
        assert_same_bits(metric(real=real, fake=fake, k=ks), expected)


@pytest.mark.parametrize("k", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_single_k(real, k):
    assert_same_bits(fastgen.knn_radii(real, k), fastgen.knn_radii(real, 3))


def test_smallest_and_largest_k(real, fake):
    assert_same_bits(fastgen.knn_radii(real, [1, 119]), numpy_reference.knn_radii(real, [1, 119]))
    assert fastgen.nearest(real, fake, 96).indices.shape == (120, 96)
    assert fastgen.prdc(real=real, fake=fake, k=95).recall <= 1
    assert fastgen.nearest(real[:1], fake[:1], 1).indices.tolist() == [[0]]


# --- sharing -------------------------------------------------------------------------------------


class Counted:
    """Counts how often the engines are begun."""

    def __init__(self, monkeypatch):
        self.begun = []
        for name in ("Prepared", "Knn", "Balls", "Realism"):
            monkeypatch.setattr(session.core, name, self.wrap(name, getattr(session.core, name)))

    def wrap(self, name, engine):
        def begin(*arguments):
            self.begun.append(name)
            return engine(*arguments)

        return begin


def test_metrics_and_values_of_k_share_their_joins(real, fake, monkeypatch):
    counted = Counted(monkeypatch)
    fastgen.evaluate(real=real, fake=fake, k=[2, 5], metrics=["prdc", "precision_recall"])
    assert sorted(counted.begun) == ["Balls", "Knn", "Knn", "Prepared", "Prepared"]
    counted.begun.clear()
    fastgen.membership(real=real, fake=fake, k=[2, 5, 2])
    assert sorted(counted.begun) == ["Balls", "Knn", "Knn", *["Prepared"] * 2, *["Realism"] * 2]
    counted.begun.clear()
    fastgen.nearest(real, k=[2, 5])
    assert counted.begun == ["Prepared", "Knn"]


def test_prepared_rows_serve_several_primitives(real, fake, monkeypatch):
    counted = Counted(monkeypatch)
    x, y = session.Rows(real), session.Rows(fake)
    sq, _ = pairwise.sq_knn(x, k=3)
    sq_radii = np.ascontiguousarray(sq[:, 2])
    counts = pairwise.ball_counts(x, y, sq_radii)
    pairwise.sq_realism(x, y, sq_radii)
    pairwise.sq_knn(y, x)
    assert counted.begun.count("Prepared") == 2
    assert_same_bits(counts, pairwise.ball_counts(real, fake, sq_radii[np.newaxis]))


def test_counters_add_up(real):
    counters = {}
    pairwise.sq_knn(real, k=3, path="int8", counters=counters)
    once = dict(counters)
    assert {"pairs", "hits", "rechecked"} <= set(once)
    assert once["pairs"] >= 120 * 119 // 2
    pairwise.sq_knn(real, k=3, path="int8", counters=counters)
    assert counters["pairs"] == 2 * once["pairs"]


# --- progress -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")
@pytest.mark.parametrize("d", [3, 20])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_progress_rises_to_one(name, d):
    real, fake = families.gaussian(families.seeded("progress"), 2200, d, "float32")
    told = []
    if name in METRICS:
        getattr(fastgen, name)(real=real, fake=fake, k=[2, 3], progress=told.append)
    elif name in ("kid", "cmmd"):
        getattr(fastgen, name)(real=real, fake=fake, progress=told.append)
    elif name in ("mmd", "log_density", "heldout_log_likelihood"):
        getattr(fastgen, name)(real, fake, progress=told.append)
    else:
        getattr(fastgen, name)(real, progress=told.append)
    assert told == sorted(told)
    assert told[0] >= 0
    assert told.count(1.0) == 1
    assert told[-1] == 1.0


def test_an_exception_in_the_callback_ends_the_call(real):
    class Enough(Exception):
        pass

    def stop(fraction):
        raise Enough

    with pytest.raises(Enough):
        fastgen.knn_radii(real, progress=stop)


def test_shared_steps_have_their_weight():
    told = []
    shown = progress.Progress("prdc", told.append)
    with shown:
        shown.expect(100)
        shown.expect(300)
        for work in (100, 300):
            for fraction in (0.5, 1.0):
                shown.update(work, fraction)
    assert told == [0.125, 0.25, 0.625, 1.0]


def test_work_beyond_what_was_announced_never_exceeds_one():
    told = []
    with progress.Progress("prdc", told.append) as shown:
        shown.expect(10)
        shown.update(10, 1.0)
        shown.update(40, 0.5)
        shown.update(40, 1.0)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_bar_waits_a_second_and_goes_away(monkeypatch, capsys):
    pytest.importorskip("rich")
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.Progress("prdc", True) as shown:
        shown.update(1, 0.1)
        assert shown._bar is None
        clock[0] = 0.9
        shown.update(1, 0.2)
        assert shown._bar is None
        clock[0] = 1.1
        shown.update(1, 0.5)
        assert shown._bar is not None
    assert shown._bar is None
    assert capsys.readouterr().out == ""


def test_the_bar_goes_away_after_an_error(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr(progress, "BAR_AFTER_SECONDS", -1.0)
    shown = progress.Progress("prdc", True)

    def work():
        with shown:
            shown.update(1, 0.5)
            assert shown._bar is not None
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert shown._bar is None


def test_without_rich_a_bar_names_the_pip_command(real, monkeypatch):
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)
    text = (
        r"^knn_radii: expected `progress` to be False or a callable, got True; the bar needs rich"
    )
    with pytest.raises(fastgen.BackendUnavailableError, match=text) as caught:
        fastgen.knn_radii(real, progress=True)
    assert "pip install 'fastgen[cli]'" in str(caught.value)
    fastgen.knn_radii(real, progress=False)


# --- the rest -------------------------------------------------------------------------------------


def test_info():
    info = fastgen.info()
    assert info.instruction_set == info.instruction_sets[0]
    assert "portable" in info.instruction_sets
    assert info.threads >= 1
    assert info.gpus == ()
    assert info.version == fastgen.__version__


def test_instruction_sets_can_be_forced(real, monkeypatch):
    expected = numpy_reference.knn_radii(real)
    for isa in fastgen.info().instruction_sets:
        monkeypatch.setenv("FASTGEN_ISA", isa)
        assert fastgen.info().instruction_set == isa
        assert_same_bits(fastgen.knn_radii(real), expected)
    monkeypatch.setenv("FASTGEN_ISA", "")
    assert fastgen.info().instruction_set == fastgen.info().instruction_sets[0]


def test_inputs_are_left_alone(real, fake):
    before = real.copy(), fake.copy()
    for frozen in (False, True):
        real.flags.writeable = fake.flags.writeable = not frozen
        fastgen.evaluate(real=real, fake=fake)
        fastgen.membership(real=real, fake=fake)
        fastgen.cmmd(real=real, fake=fake)
    assert_same_bits((real, fake), before)


def test_a_missing_backend_is_a_runtime_error():
    assert issubclass(fastgen.BackendUnavailableError, RuntimeError)
