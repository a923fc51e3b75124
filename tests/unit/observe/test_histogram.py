"""Pins how durations are bucketed and written for Prometheus."""

import doctest
from bisect import bisect_left

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyproxy.observe import histogram
from pyproxy.observe.histogram import BOUNDS, BUCKETS, WIDTH, quantile, sample_lines


def observe(columns: list[int], seconds: float) -> None:
    """Count as the byte path does."""
    columns[bisect_left(BOUNDS, seconds)] += 1
    columns[WIDTH - 1] += int(seconds * 1e9)


def parse(columns: list[int]) -> dict[str, float]:
    """Read the rendered histogram back with prometheus_client: le (or sum, count) to value."""
    text = "# TYPE x histogram\n" + "\n".join(sample_lines("x", 'pool="web"', columns)) + "\n"
    (family,) = text_string_to_metric_families(text)
    assert all(sample.labels["pool"] == "web" for sample in family.samples)
    return {sample.labels.get("le", sample.name): sample.value for sample in family.samples}


def test_doctest() -> None:
    """The example in the documentation is true."""
    assert doctest.testmod(histogram).failed == 0


def test_bounds_rise() -> None:
    """The bounds rise strictly, or bisect would count into the wrong bucket."""
    assert sorted(set(BOUNDS)) == list(BOUNDS)
    assert len(BOUNDS) + 2 == WIDTH


@pytest.mark.parametrize("index", range(len(BOUNDS)))
def test_a_bound_belongs_to_its_own_bucket(index: int) -> None:
    """A value equal to a bound is counted at or below it, one just above is not."""
    columns = [0] * WIDTH
    observe(columns, BOUNDS[index])
    observe(columns, BOUNDS[index] * 1.0001)
    parsed = parse(columns)
    assert parsed[str(BOUNDS[index])] == 1
    assert parsed["+Inf"] == 2


def test_rendering_is_cumulative_and_counts_what_is_above_every_bound() -> None:
    """Buckets are separate in memory and cumulative in the text; +Inf, count and sum agree."""
    columns = [0] * WIDTH
    for seconds in (0.0001, 0.0015, 0.0015, 3.0, 61.0, 600.0):
        observe(columns, seconds)
    parsed = parse(columns)
    assert parsed["0.0005"] == 1
    assert parsed["0.002"] == 3
    assert parsed["5.0"] == 4
    assert parsed["60.0"] == 4
    assert parsed["+Inf"] == parsed["x_count"] == 6
    assert parsed["x_sum"] == pytest.approx(664.0031)


def test_every_bucket_is_written() -> None:
    """One line a bucket, then sum and count, even when nothing was counted."""
    assert len(sample_lines("x", 'pool="web"', [0] * WIDTH)) == BUCKETS + 2


def test_a_quantile_lies_in_its_bucket() -> None:
    """Also the smallest and the largest, beyond the bounds, and of nothing at all."""
    for bucket in range(BUCKETS):
        counts = [0] * BUCKETS
        counts[bucket] = 7
        found = [quantile(counts, share) for share in (0.0, 0.5, 0.99, 1.0)]
        assert found == sorted(found)
        low, high = (0.0, *BOUNDS)[bucket], (*BOUNDS, BOUNDS[-1])[bucket]
        assert low <= found[0]
        assert found[-1] == pytest.approx(high)
    assert quantile([0] * BUCKETS, 0.5) == 0.0
