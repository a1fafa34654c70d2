import pytest

from winnow.report.demo import write_demo_report


def demo_summary(plain, robust):
    return {
        "methods": {
            "cross-entropy": {
                "test_accuracy_last": plain,
                "label_quality_auroc": [0.6] * len(plain),
                "corrected_label_accuracy": None,
            },
            "winnow": {
                "test_accuracy_last": robust,
                "label_quality_auroc": [0.95] * len(plain),
                "corrected_label_accuracy": [0.948] * len(plain),
            },
        },
        "seeds": list(range(len(plain))),
        "data": "digits",
        "noise_rate": 0.4,
        "num_images": 1437,
        "num_test": 360,
        "seconds": 70.0,
    }


@pytest.fixture
def headline(digits_run, digit_images, tmp_path, read):
    def of(plain, robust):
        path = tmp_path / "demo"
        path.mkdir()
        written = write_demo_report(path, demo_summary(plain, robust), digits_run, lambda row: digit_images[row])
        assert written == path / "report.html"
        return read(written).text

    return of


def test_better_with_its_spread_over_seeds(headline):
    # 0.233, 0.222, 0.217: mean 22.4 points
    text = headline([0.698, 0.714, 0.725], [0.931, 0.936, 0.942])

    assert "On clean test digits winnow is 22.4 points better than cross-entropy (21.7 to 23.3 over 3 seeds)" in text
    assert "cross-entropy71.2 %69.8 to 72.50.600-" in text
    assert "winnow93.6 %93.1 to 94.20.95094.8 %" in text


def test_worse_is_said_plainly(headline):
    text = headline([0.9, 0.92], [0.88, 0.91])

    assert "winnow is 1.5 points worse than cross-entropy (1.0 to 2.0 over 2 seeds)" in text


def test_a_gain_that_one_seed_contradicts_is_not_settled(headline):
    text = headline([0.9, 0.9], [0.93, 0.89])

    assert "winnow is 1.0 points better than cross-entropy (\u22121.0 to +3.0 over 2 seeds: not settled)" in text


def test_equal_is_as_good_as(headline):
    assert "winnow is as good as cross-entropy (0.0 to 0.0 over 2 seeds)" in headline([0.9, 0.9], [0.9, 0.9])


def test_one_seed_has_no_spread(headline):
    assert "winnow is 3.0 points better than cross-entropy (one seed)" in headline([0.9], [0.93])


def test_a_file_name_is_taken_as_it_is(digits_run, digit_images, tmp_path):
    target = tmp_path / "page.html"

    assert write_demo_report(target, demo_summary([0.9], [0.93]), digits_run, lambda row: digit_images[row]) == target
