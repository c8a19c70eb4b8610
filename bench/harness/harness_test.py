"""python3 -m unittest discover -s bench -p '*_test.py'"""

from __future__ import annotations

import contextlib
import io
import unittest

from .machine import Disturbance
from .pairs import measure_pairs
from .records import Report, as_json, at_least, at_most, table
from .statistics import median, p99, quantile


class FakeAccount:
    """Disturbances in the order in which they will be seen; quiet afterwards."""

    def __init__(self, *foreign: float):
        self._foreign = list(foreign)

    def watch(self) -> FakeAccount:
        return self

    def stop(self) -> Disturbance:
        return Disturbance(steal=0.0, foreign=self._foreign.pop(0) if self._foreign else 0.0)


def pairs_of(account: FakeAccount, ours, theirs, until: float = float("inf")):
    with contextlib.redirect_stderr(io.StringIO()):
        windows = {"ours": lambda: {"v": next(ours)}, "theirs": lambda: {"v": next(theirs)}}
        return measure_pairs(account, windows, until=until, pairs=3)


def ratio(figures) -> float:
    return figures["ours"]["v"] / figures["theirs"]["v"]


class StatisticsTest(unittest.TestCase):
    def test_a_quantile_is_a_sample_that_enough_others_do_not_exceed(self):
        self.assertEqual(quantile([3, 1, 2, 4], 0.25), 1)
        self.assertEqual(quantile([3, 1, 2, 4], 0.75), 3)
        self.assertEqual(p99(list(range(1, 1001))), 990)
        self.assertEqual(quantile([7], 0.5), 7)

    def test_the_median_of_an_even_count_lies_between(self):
        self.assertEqual(median([1, 10, 2, 4]), 3)


class PairsTest(unittest.TestCase):
    def test_the_value_is_the_median_of_the_ratios_not_the_ratio_of_the_medians(self):
        series = pairs_of(FakeAccount(), iter([1.0, 20.0, 9.0]), iter([2.0, 10.0, 3.0]))
        self.assertEqual(series.ratio(ratio).median, 2.0)

    def test_a_disturbed_pair_is_repeated_and_the_quiet_attempt_counts(self):
        account = FakeAccount(0.0, 0.5, 0.2, 0.01)
        series = pairs_of(account, iter([1.0, 90, 80, 2.0, 3.0]), iter([1.0] * 5))
        self.assertEqual(series.repeated, 2)
        self.assertEqual([ratio(pair.figures) for pair in series.pairs], [1.0, 2.0, 3.0])

    def test_after_three_repetitions_the_quietest_attempt_is_kept(self):
        account = FakeAccount(0.4, 0.2, 0.3, 0.4)
        series = pairs_of(account, iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), iter([1.0] * 6))
        self.assertEqual(series.repeated, 3)
        self.assertEqual(ratio(series.pairs[0].figures), 2.0)
        self.assertEqual(series.foreign, 0.2)

    def test_nothing_is_repeated_when_time_is_up(self):
        series = pairs_of(FakeAccount(1, 1, 1), iter([1.0] * 3), iter([1.0] * 3), until=0.0)
        self.assertEqual(series.repeated, 0)
        self.assertEqual(len(series.pairs), 3)


class RecordsTest(unittest.TestCase):
    def test_only_the_ratio_decides_whether_a_target_is_met(self):
        report = Report("b")
        report.single("m", "most", value=3, unit="s", rival="r", rival_value=2, target=at_most(1.5))
        report.single("m", "over", value=4, unit="s", rival="r", rival_value=2, target=at_most(1.5))
        report.single("m", "least", value=1, unit="s", rival="r", rival_value=2, target=at_least(1))
        report.single("m", "alone", value=4, unit="s")
        self.assertEqual([record.met for record in report.records], [True, False, False, None])

    def test_a_figure_of_zero_beside_zero_is_equal(self):
        report = Report("b")
        report.single("m", "files", value=0, unit="", rival="r", rival_value=0, target=at_most(1))
        report.single("m", "new", value=2, unit="", rival="r", rival_value=0, target=at_most(1))
        self.assertEqual([record.met for record in report.records], [True, False])

    def test_a_record_holds_what_every_benchmark_reports(self):
        report = Report("b")
        report.single("m", "x", value=1, unit="s")
        (record,) = as_json(report.records)
        wanted = {"bench", "model", "metric", "value", "unit", "rival", "ratio", "target", "met"}
        self.assertLessEqual(wanted | {"ratio_q1", "ratio_q3", "steal", "cpu", "kernel"}, set(record))
        self.assertIn("b      m", table(report.records))


if __name__ == "__main__":
    unittest.main()
