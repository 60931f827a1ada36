"""Final losses and their differences, with intervals over seeds and images."""

import math

import pytest

from bench.score import losses as losses_
from bench.score.losses import block_classes, difference_of_test_loss, loss, paired_loss, paired_test_loss
from bench.statistics import t_interval
from bench.store.rows import read_rows
from tests.bench.pairs import CONTENDER, REFERENCE, ROLES, rows_on_t
from tests.bench.synthetic import diverging, falling, frames, rows_of, train_cell


@pytest.mark.rule(12)
def test_the_interval_of_a_test_loss_lets_seeds_and_images_vary():
    # Seeds alike, blocks of images 0 and 2: over seeds alone no spread, over images 1 -+ t(4; 0.975).
    rows = rows_on_t({REFERENCE: [falling(0.01)] * 5}, test=[0.0, 2.0])
    found = losses_.loss(rows, ["t"], REFERENCE, "final_test_loss")[0]
    assert (found.low, found.high) == pytest.approx((1 - 2.776, 1 + 2.776), abs=5e-4)
    assert losses_.loss(rows, ["t"], REFERENCE, "final_validation_loss")[0].low == 2.0


class TestLosses:
    def test_one_task_gives_students_interval_over_seeds(self):
        rows = rows_of({"a": {REFERENCE: [falling(0.01 * k) for k in range(1, 6)]}})  # final losses 2, 1, 0, -1, -2
        assert loss(rows, ["a"], REFERENCE, "final_train_loss") == (t_interval([2.0, 1.0, 0.0, -1.0, -2.0]), 0)

    def test_tasks_are_averaged_within_each_seed(self):
        curves = [falling(0.01 * k) for k in range(1, 6)]
        rows = rows_of(
            {"a": {REFERENCE: curves}, "b": {REFERENCE: curves[::-1]}}
        )  # 2 and -2, 1 and -1, ..: 0 for every seed
        found, failed = loss(rows, ["a", "b"], REFERENCE, "final_train_loss")
        assert (found.estimate, found.high - found.low, failed) == (pytest.approx(0), pytest.approx(0, abs=1e-12), 0)

    def test_a_failed_run_is_counted_is_in_no_mean_and_takes_the_interval_away(self):
        curves = [falling(0.01)] * 5 + [diverging(3)]
        found, failed = loss(rows_of({"a": {REFERENCE: curves}}), ["a"], REFERENCE, "final_train_loss")
        assert (found.estimate, found.low, failed) == (pytest.approx(2.0), None, 1)

    def test_a_missing_cell_takes_the_interval_away_and_is_no_failure(self):
        curves = [falling(0.01)] * 6
        rows = rows_of({"a": {REFERENCE: curves}, "b": {REFERENCE: curves[:5]}})
        found, failed = loss(rows, ["a", "b"], REFERENCE, "final_train_loss")
        assert (found.estimate, found.low, failed) == (pytest.approx(2.0), None, 0)

    def test_where_every_run_fails_there_is_no_mean(self):
        rows = rows_of({"a": {REFERENCE: [diverging(3)] * 5}})
        assert loss(rows, ["a"], REFERENCE, "final_train_loss") == (None, 5)
        assert loss(rows, ["a"], "nobody", "final_train_loss") == (None, 0)

    def test_the_interval_of_the_test_loss_lets_images_vary_too(self):
        # Seeds alike, blocks of images 0 and 2: over seeds alone there is no spread, over images 1 +- t(4; 0.975).
        rows = rows_of({"a": {REFERENCE: [falling(0.01)] * 5}}, test=[0.0, 2.0])
        found, _ = loss(rows, ["a"], REFERENCE, "final_test_loss")
        assert (found.estimate, found.low, found.high) == pytest.approx((1.0, 1 - 2.776, 1 + 2.776), abs=5e-4)

    def test_blocks_that_differ_by_an_image_move_the_interval_to_the_mean_over_images(self):
        rows = rows_of({"a": {REFERENCE: [falling(0.01)] * 5}}, test=[0.0, 2.0], finals={"test": 1.1})
        found, _ = loss(rows, ["a"], REFERENCE, "final_test_loss")
        assert (found.estimate, found.low, found.high) == pytest.approx((1.1, 1.1 - 2.776, 1.1 + 2.776), abs=5e-4)

    def test_the_difference_of_test_losses_lets_seeds_and_images_vary(self):
        # Differences 1 to 5 by seed, and 2 more on the second block of images: the seeds' means 2..6 have variance 2.5,
        # over 5; the blocks' 3 and 5 have 2, over 2; all ten have 30 / 9, over 10. 0.5 + 1 - 1 / 3 = 7 / 6.
        def cells(task):
            for seed in range(5):
                yield train_cell(task, CONTENDER, seed, falling(0.01), "learned", test=[seed + 1.5, seed + 3.5])
                yield train_cell(task, REFERENCE, seed, falling(0.01), test=[0.5, 0.5])

        rows = read_rows(*frames([*cells("a"), *cells("b")]))
        found = difference_of_test_loss(rows, ["a"], CONTENDER, REFERENCE)
        half = 2.776 * math.sqrt(7 / 6)
        assert (found.estimate, found.low, found.high) == pytest.approx((4.0, 4 - half, 4 + half), abs=6e-4)
        # Two tasks may share their images, so that 1 stays what it is; of what both count, a half is left: 1 / 6.
        half = 2.776 * math.sqrt(0.5 + 1 - 1 / 6)
        found = difference_of_test_loss(rows, ["a", "b"], CONTENDER, REFERENCE)
        assert (found.estimate, found.low, found.high) == pytest.approx((4.0, 4 - half, 4 + half), abs=6e-4)

    def test_a_pair_of_other_numbers_of_seeds_lets_images_vary_too_over_those_that_both_have(self):
        # As above, the reference with further seeds, and a mean loss of whole splits that no block has.
        def cells():
            for seed in range(8):
                yield train_cell("a", REFERENCE, seed, falling(0.01), test=[0.5, 0.5])
            for seed in range(5):
                yield train_cell("a", CONTENDER, seed, falling(0.01), "learned", test=[seed + 1.5, seed + 3.5])

        rows = read_rows(*frames(list(cells())))
        half = 2.776 * math.sqrt(7 / 6)
        found = paired_test_loss(rows, CONTENDER, REFERENCE)
        assert (found.estimate, found.low, found.high) == pytest.approx((4.0, 4 - half, 4 + half), abs=6e-4)
        assert paired_loss(rows, CONTENDER, REFERENCE, "final_test_loss").high < found.high

    def test_blocks_of_images_know_their_class_where_classes_lie_one_after_the_other(self):
        # 500 images, 50 of a class, in 25 blocks of 20: 0-19 and 20-39 of the first class, 40-59 of two, and so on.
        def of(family):
            cells, curves = frames([train_cell("t", REFERENCE, 0, falling(0.01), test=[0.0, 2.0])])
            return block_classes(read_rows(cells.assign(family=family), curves), "t", 25)

        assert of("mnist28_cnn3") is None
        assert of("somebody_elses") is None
        expected = [label for k in range(5) for label in (2 * k, 2 * k, -1, 2 * k + 1, 2 * k + 1)]
        assert list(of("imagenet32_cnn3")) == expected

    def test_what_differs_between_the_classes_of_a_task_widens_no_interval(self):
        # Classes at 0, 1, 2 ...; every block of its class alone 0.1 above or below: within classes 20 x 0.01 over
        # 20 - 10, over 25 blocks.
        blocks = [
            k + d
            for j in range(5)
            for k, d in ((2 * j, -0.1), (2 * j, 0.1), (0, 4.5), (2 * j + 1, 0.1), (2 * j + 1, -0.1))
        ]
        cells, curves = frames([train_cell("t", REFERENCE, seed, falling(0.01), test=blocks) for seed in range(5)])
        found, _ = loss(read_rows(cells.assign(family="imagenet32_cnn3"), curves), ["t"], REFERENCE, "final_test_loss")
        assert found.high - found.estimate == pytest.approx(2.776 * math.sqrt(0.02 / 25), rel=1e-3)
        mixed, _ = loss(read_rows(cells.assign(family="mnist28_cnn3"), curves), ["t"], REFERENCE, "final_test_loss")
        assert mixed.high - mixed.low > 10 * (found.high - found.low)

    @pytest.mark.parametrize(
        "lacking",
        [
            "seed of one",
            "seed of both",
            "diverged",
        ],
    )
    def test_without_the_same_finished_seeds_on_every_task_there_is_no_such_difference(self, lacking):
        curves = {seed: falling(0.01) for seed in range(6)}
        runs = {task: {CONTENDER: dict(curves), REFERENCE: dict(curves)} for task in "ab"}
        if lacking == "seed of one":
            del runs["b"][CONTENDER][3]
        if lacking == "seed of both":  # seeds 0 to 4 on one task and 1 to 5 on the other
            for name in (CONTENDER, REFERENCE):
                del runs["a"][name][5], runs["b"][name][0]
        if lacking == "diverged":
            runs["b"][REFERENCE][3] = diverging(20)
        assert difference_of_test_loss(rows_of(runs, roles=ROLES), ["a", "b"], CONTENDER, REFERENCE) is None
