"""A short run of the fuzz, whose long one docs/reliability.md tells of."""

from tests.faults import fuzz


def test_random_configs_are_taken_or_refused_with_their_cause():
    report = fuzz.fuzz(150, 1, fuzz.one_config)
    assert report["num"] == 150
    assert report["failures"] == []
    assert {"taken", "refused"} <= report["outcomes"].keys()


def test_random_image_files_are_used_or_refused_with_their_cause():
    report = fuzz.fuzz(40, 1, fuzz.one_image)
    assert report["num"] == 40
    assert report["failures"] == []


def test_a_traceback_counts_as_a_failure():
    def one(chance):
        raise KeyError(chance.randint(0, 3))

    report = fuzz.fuzz(5, 0, one)
    assert len(report["failures"]) == report["num"] > 1
    assert "KeyError" in report["failures"][0]
