"""The reference against definitions that are slower still, and examples worked out by hand."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import families
import numpy as np
import pytest
from checks import assert_same_bits, remembered_distances

from fastgen import numpy_reference as reference
from fastgen.numpy_reference import distances

WIDTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 100, 768)
ROOT2, ROOT3 = np.sqrt(2.0), np.sqrt(3.0)


def canonical(x, y) -> float:
    """Return the canonical squared distance of two rows, in plain Python numbers."""
    acc = [0.0] * 32
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        t = float(a) - float(b)
        acc[i % 32] += t * t
    for w in (16, 8, 4, 2, 1):
        for j in range(w):
            acc[j] += acc[j + w]
    return acc[0]


@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sq_distances_follow_the_canonical_order(d, dtype):
    x, y = families.heavy_tailed(families.seeded("canonical", d), 7, d, dtype)
    expected = np.array([[canonical(a, b) for b in y] for a in x])
    assert_same_bits(reference.sq_distances(x, y), expected)


def test_sq_distances_add_in_lanes_and_then_by_halves():
    d, small = 40, 2.0**-27  # its square is a quarter of the gap between 1 and the next number
    x = np.zeros((3, d))
    x[:, 0] = 1.0
    x[0, [1, 17, 3, 19]] = small  # meet each other before they meet the 1
    x[1, [16, 8, 4, 2]] = small  # meet the 1 one by one, and vanish
    x[2, [32]] = small  # the same lane as the 1
    expected = np.array([[1 + 2.0**-52], [1.0], [1.0]])
    assert_same_bits(reference.sq_distances(x, np.zeros((1, d))), expected)


@pytest.mark.parametrize("d", WIDTHS)
def test_sq_distances_agree_with_scipy(d):
    distance = pytest.importorskip("scipy.spatial.distance")
    x, y = families.gaussian(families.seeded("scipy", d), 60, d, "float32")
    expected = distance.cdist(x.astype(float), y.astype(float), "sqeuclidean")
    np.testing.assert_allclose(reference.sq_distances(x, y), expected, rtol=1e-12)


@pytest.mark.parametrize("pairs", [1, 3, 40, 1000])
def test_blocks_change_nothing(monkeypatch, pairs):
    x, y = families.relu(families.seeded("blocks"), 41, 37, "float32")
    whole = reference.sq_distances(x, y), reference.membership(real=x, fake=y, k=[2, 3])
    radii, near = reference.knn_radii(x, k=4), reference.nearest(x, k=3)
    monkeypatch.setattr(distances, "_TILE_PAIRS", pairs)
    monkeypatch.setattr(distances, "_BLOCK_PAIRS", pairs)
    assert_same_bits(reference.sq_distances(x, y), whole[0])
    assert_same_bits(reference.membership(real=x, fake=y, k=[2, 3]), whole[1])
    assert_same_bits(reference.knn_radii(x, k=4), radii)
    assert_same_bits(reference.nearest(x, k=3), near)


def test_sq_distances_are_symmetric():
    x, y = families.all_scales(families.seeded("symmetric"), 30, 45, "float64")
    assert_same_bits(reference.sq_distances(x, y), reference.sq_distances(y, x).T.copy())


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "float16", "float32"])
def test_every_dtype_is_converted_before_the_difference(dtype):
    x = np.array([[0, 3], [127, 0]]).astype(dtype)
    assert_same_bits(reference.sq_distances(x, x), np.array([[0.0, 16138.0], [16138.0, 0.0]]))


def test_layout_changes_nothing():
    x, _ = families.gaussian(families.seeded("layout"), 20, 33, "float32")
    expected = reference.sq_distances(x, x)
    backwards = np.repeat(x, 2, axis=1)[::-1, ::2]
    frozen = np.asfortranarray(x)
    frozen.flags.writeable = False
    assert_same_bits(reference.sq_distances(backwards[::-1], frozen), expected)
    assert_same_bits(reference.sq_distances(x.astype(">f4"), x), expected)


def test_distances_that_float32_cannot_hold():
    large = np.array([[3e38], [-3e38]], dtype=np.float32)
    small = np.array([[1e-30], [2e-30]], dtype=np.float32)
    assert reference.knn_radii(large, k=1)[0] == 2 * float(large[0, 0])
    assert reference.knn_radii(small, k=1)[0] == float(small[1, 0]) - float(small[0, 0])


def test_knn_radii_leave_out_the_row_by_index_not_by_value():
    x = np.array([[1.0], [1.0], [4.0], [1.0]])
    assert_same_bits(reference.knn_radii(x, k=1), np.array([0.0, 0.0, 3.0, 0.0]))
    assert_same_bits(reference.knn_radii(x, k=3), np.array([3.0, 3.0, 3.0, 3.0]))


def test_knn_radii_of_several_k():
    x = np.array([[0.0], [1.0], [3.0], [7.0]])
    found = reference.knn_radii(x, k=(3, 1, 3))
    expected = [np.array([7.0, 6, 4, 7]), np.array([1.0, 1, 2, 4]), np.array([7.0, 6, 4, 7])]
    assert_same_bits(found, expected)


def test_nearest_orders_equal_distances_by_index():
    y = np.array([[2.0], [0.0], [2.0], [1.0], [0.0]])
    found = reference.nearest(np.array([[1.0], [0.0]]), y, k=4)
    assert_same_bits(found.indices, np.array([[3, 0, 1, 2], [1, 4, 3, 0]]))
    assert_same_bits(found.distances, np.array([[0.0, 1, 1, 1], [0, 0, 1, 2]]))


def test_nearest_excludes_the_row_itself_only_without_y():
    x = np.zeros((4, 2))
    found = reference.nearest(x, k=3)
    assert_same_bits(found.indices, np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]))
    assert_same_bits(reference.nearest(x, x, k=2).indices, np.array([[0, 1]] * 4))


def test_nearest_of_several_k():
    x = np.arange(5.0)[:, np.newaxis]
    short, long = reference.nearest(x, k=[1, 4])
    assert_same_bits(short.indices, np.ascontiguousarray(long.indices[:, :1]))
    assert long.distances.shape == (5, 4)


# Real 0, 1, 3 and fake 1, 2, 9 on a line, k = 1: real radii 1, 1, 2; fake radii 1, 1, 7.
#            in real balls [-1,1] [0,2] [1,5]     in fake balls [0,2] [1,3] [2,16]
# closed: 1 is in 3, 2 in 2, 9 in 0               0 is in 1, 1 in 2, 3 in 2
# open:   1 is in 1 (its own place), 2 in 1, 9    0 is in 0, 1 in 1 (its own place), 3 in 1
REAL, FAKE = np.array([[0.0], [1], [3]]), np.array([[1.0], [2], [9]])


def test_prdc_by_hand():
    closed = reference.prdc(real=REAL, fake=FAKE, k=1)
    assert closed == reference.PRDC(2 / 3, 1.0, 5 / 3, 1.0)
    opened = reference.prdc(real=REAL, fake=FAKE, k=1, ties="open")
    assert opened == reference.PRDC(2 / 3, 2 / 3, 2 / 3, 2 / 3)


def test_precision_recall_by_hand():
    found = reference.precision_recall(real=REAL, fake=FAKE, k=1)
    assert found == reference.PrecisionRecall(2 / 3, 1.0, 2 * (2 / 3) / (2 / 3 + 1.0))
    apart = reference.precision_recall(real=REAL, fake=FAKE + 100, k=1)
    assert apart == reference.PrecisionRecall(0.0, 0.0, 0.0)


def test_membership_by_hand():
    found = reference.membership(real=REAL, fake=FAKE, k=1)
    assert_same_bits(found.fake_in_real, np.array([True, True, False]))
    assert_same_bits(found.real_in_fake, np.array([True, True, True]))
    assert_same_bits(found.fake_counts, np.array([3, 2, 0]))
    # The radius of 3 is above the median and left out; 1 is at a real row, whose radius is 1.
    assert_same_bits(found.realism, np.array([np.inf, 1.0, 0.125]))


def test_realism_of_nothing_over_nothing_is_one():
    real = np.array([[0.0], [0.0], [0.0], [5.0]])
    found = reference.membership(real=real, fake=np.array([[0.0], [2.0]]), k=1)
    assert_same_bits(found.realism, np.array([1.0, 0.0]))


def test_realism_compares_with_the_median_of_the_squares():
    # Squared radii 1, 1, 4, 16 in this order of size: the median is 2.5.
    x = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert_same_bits(reference.sq_knn_radii(x, k=1), np.array([1.0, 1.0, 4.0, 16.0]))
    found = reference.membership(real=x, fake=np.array([[4.0], [5.0]]), k=1)
    assert_same_bits(found.realism, np.array([1 / 3, 1 / 4]))


def test_squares_are_compared_and_not_roots():
    # The root of 2 squares to more than 2, that of 3 to less than 3.
    assert ROOT2 * ROOT2 > 2
    assert ROOT3 * ROOT3 < 3
    for size, row in ((2.0, [1.0, 1, 0]), (3.0, [1.0, 1, 1])):
        real = np.array([[0.0, 0, 0], row])
        fake = np.array([row, [50.0, 0, 0]])
        assert_same_bits(reference.sq_knn_radii(real, k=1), np.array([size, size]))
        closed = reference.membership(real=real, fake=fake, k=1).fake_counts
        opened = reference.membership(real=real, fake=fake, k=1, ties="open").fake_counts
        assert_same_bits((closed, opened), (np.array([2, 0]), np.array([1, 0])))


@pytest.mark.parametrize("ties", ["closed", "open"])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_metrics_agree_with_loops(k, ties):
    real, fake = families.integers(families.seeded("loops", k), 13, 3, "float32", m=11)

    def inside(distance, radius):
        return distance <= radius if ties == "closed" else distance < radius

    def radii(rows):
        found = []
        for i, a in enumerate(rows):
            found.append(sorted(canonical(a, b) for j, b in enumerate(rows) if j != i)[k - 1])
        return found

    real_radii, fake_radii = radii(real), radii(fake)
    pairs = [(i, j, canonical(a, b)) for i, a in enumerate(real) for j, b in enumerate(fake)]
    held = np.zeros((len(real), len(fake)), dtype=bool)
    back = np.zeros((len(real), len(fake)), dtype=bool)
    for i, j, distance in pairs:
        held[i, j] = inside(distance, real_radii[i])
        back[i, j] = inside(distance, fake_radii[j])
    expected = reference.PRDC(
        precision=float(held.any(axis=0).mean()),
        recall=float(back.any(axis=1).mean()),
        density=int(held.sum()) / (k * len(fake)),
        coverage=float(held.any(axis=1).mean()),
    )
    assert reference.prdc(real=real, fake=fake, k=k, ties=ties) == expected
    found = reference.membership(real=real, fake=fake, k=k, ties=ties)
    assert_same_bits(found.fake_in_real, held.any(axis=0))
    assert_same_bits(found.real_in_fake, back.any(axis=1))
    assert_same_bits(found.fake_counts, held.sum(axis=0))
    counts = reference.ball_counts(real, fake, [real_radii], [fake_radii], ties)
    expected_counts = {
        "y_in_x": held.sum(axis=1, keepdims=True).T,
        "x_balls_of_y": held.sum(axis=0, keepdims=True),
        "x_in_y": back.sum(axis=0, keepdims=True),
        "y_balls_of_x": back.sum(axis=1, keepdims=True).T,
    }
    assert_same_bits(counts, expected_counts)


def test_a_set_and_its_copy():
    x, y = families.gaussian(families.seeded("copy"), 40, 5, "float64", m=40)
    assert reference.prdc(real=x, fake=x.copy(), k=3) == reference.PRDC(1.0, 1.0, 4 / 3, 1.0)
    assert reference.prdc(real=x, fake=x.copy(), k=3, ties="open").density == 1.0
    assert reference.prdc(real=x, fake=y + 1e6, k=3) == reference.PRDC(0.0, 0.0, 0.0, 0.0)


def test_evaluate_gathers_the_metrics():
    report = reference.evaluate(real=REAL, fake=FAKE, k=1)
    assert list(report) == ["fid", "kid", "prdc"]
    assert_same_bits(report["fid"], reference.fid(real=REAL, fake=FAKE))
    assert_same_bits(report["prdc"], reference.prdc(real=REAL, fake=FAKE, k=1))
    assert report["kid"].mean == reference.kid(real=REAL, fake=FAKE).mean
    names = ["prdc", "precision_recall"]
    reports = reference.evaluate(real=REAL, fake=FAKE, metrics=names, k=[1, 2], ties="open")
    balls = {"real": REAL, "fake": FAKE, "k": [1, 2], "ties": "open"}
    expected = zip(reference.prdc(**balls), reference.precision_recall(**balls), strict=True)
    assert reports == [dict(zip(names, pair, strict=True)) for pair in expected]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: reference.knn_radii(x, k=3), r"expected `k` in \[1, 2\], got 3"),
        (lambda x: reference.knn_radii(x, k=0), r"expected `k` in \[1, 2\], got 0"),
        (lambda x: reference.nearest(x, k=3), r"expected `k` in \[1, 2\], got 3"),
        (lambda x: reference.nearest(x, x, k=4), r"expected `k` in \[1, 3\], got 4"),
        (lambda x: reference.knn_radii(x, k=[]), "at least one value"),
        (lambda x: reference.prdc(real=x, fake=x[:2], k=2), r"\[1, 1\], got 2"),
        (lambda x: reference.prdc(real=x, fake=x, k=1, ties="half"), '"closed" or "open"'),
        (lambda x: reference.prdc(real=x, fake=x[:, :1], k=1), "2 columns as `x`, got 1"),
        (lambda x: reference.sq_distances(x[0], x), r"shape \(n, d\)"),
        (lambda x: reference.ball_counts(x, x, [[1.0]]), "`sq_radii_x` with 3 radii"),
        (lambda x: reference.evaluate(real=x, fake=x, metrics=["fido"]), "got 'fido'"),
    ],
)
def test_bad_arguments_are_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call(np.arange(6.0).reshape(3, 2))


def test_distances_can_be_remembered(monkeypatch):
    asked = []

    def count(x, y, compute=distances.sq_distances):
        asked.append(len(x))
        return compute(x, y)

    monkeypatch.setattr(distances, "sq_distances", count)
    x, y = families.relu(families.seeded("remembered"), 20, 5, "float64")
    expected = reference.nearest(x, y, k=3), reference.mmd(x, y, reference.Energy()).value
    with remembered_distances():
        asked.clear()
        for _ in range(3):
            assert_same_bits(reference.nearest(x, y, k=3), expected[0])
            assert reference.mmd(x, y, reference.Energy()).value == expected[1]
    assert len(asked) == 3  # x with y, and each with itself


def test_it_imports_numpy_and_the_standard_library_alone():
    names = set()
    for path in Path(reference.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names.add(str(node.module))
    ours = {name for name in names if f"{name}.".startswith(f"{reference.__name__}.")}
    assert f"{reference.__name__}.distances" in ours
    others = {name.split(".")[0] for name in names - ours}
    assert others - set(sys.stdlib_module_names) == {"numpy"}


def test_it_offers_what_it_defines():
    for name in reference.__all__:
        assert getattr(reference, name).__module__.startswith(f"{reference.__name__}.")
    assert callable(reference.evaluate)
    assert set(reference.__all__) == {
        name
        for name, value in vars(reference).items()
        if not name.startswith("_") and callable(value)
    }


@pytest.mark.parametrize("name", [*families.DATA_FAMILIES, *families.FLOAT64_FAMILIES])
def test_data_families_are_what_they_say(name):
    family = (families.DATA_FAMILIES | families.FLOAT64_FAMILIES)[name]
    dtypes = ["float64"] if name in families.FLOAT64_FAMILIES else ["float16", "float32", "float64"]
    for dtype in dtypes:
        real, fake = family(families.seeded(name), 30, 9, dtype)
        again, _ = family(families.seeded(name), 30, 9, dtype)
        assert_same_bits(real, again)
        for rows in (real, fake):
            assert rows.dtype == dtype
            assert rows.shape[1] == 9
            assert np.isfinite(rows).all()
            assert np.abs(rows.astype(float)).max() <= families.LIMIT[dtype]
        assert len(real) == 30
        assert np.isfinite(reference.sq_distances(real, fake)).all()
