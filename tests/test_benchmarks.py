"""The benchmarks run; what they measure is not judged here."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import audit_scale, audit_speed, memory, neighbours, reading, record, speed
from benchmarks import start as starting
from benchmarks.ratio import Ratio, alternated
from benchmarks.record import Finding
from benchmarks.setting import CONVNET, SMALL_CNN, BareLoop, Batches, Case, Scale, SmallCNN, Training, data

TINY = Scale(rounds=1, images=32)


@pytest.fixture(autouse=True)
def _generated_images(monkeypatch):
    monkeypatch.delenv("WINNOW_DATA", raising=False)
    data.cache_clear()
    yield
    data.cache_clear()


class TestRatio:
    def test_runs_both_in_turn_and_changes_who_begins(self):
        calls = []

        alternated(lambda: calls.append("a"), lambda: calls.append("b"), rounds=3)

        assert "".join(calls) == "ab" + "ab" + "ba" + "ab"

    def test_times_each_call_alone_and_not_the_first(self):
        now = 0.0

        def takes(seconds):
            def run():
                nonlocal now
                now += seconds

            return run

        ratio = alternated(takes(3.0), takes(2.0), rounds=4, clock=lambda: now)

        assert ratio.first == (3.0,) * 4
        assert ratio.second == (2.0,) * 4

    def test_is_the_median_of_the_rounds_with_its_quartiles(self):
        ratio = Ratio((1.0, 2.0, 3.0, 4.0, 50.0), (1.0, 1.0, 1.0, 1.0, 0.5))

        assert ratio.each == (1.0, 2.0, 3.0, 4.0, 100.0)
        assert ratio.median == 3.0
        assert ratio.spread == (2.0, 4.0)

    def test_one_round_has_no_spread(self):
        assert Ratio((3.0,), (2.0,)).spread == (1.5, 1.5)

    def test_a_comparison_takes_at_least_seven_rounds(self):
        assert Scale().rounds >= 7


class TestRecord:
    @pytest.mark.parametrize(("value", "met"), [(1.04, "yes"), (1.15, "within 10 %"), (1.2, "no")])
    def test_a_limit_from_above(self, value, met):
        assert Finding("x", value, at_most=1.05).met == met

    @pytest.mark.parametrize(("value", "met"), [(2.3, "yes"), (1.9, "within 10 %"), (1.7, "no")])
    def test_a_limit_from_below(self, value, met):
        assert Finding("x", value, at_least=2.0).met == met

    def test_seconds_and_megabytes_have_no_tolerance(self):
        assert Finding("x", 201.0, at_most=200, unit="MB").met == "no"

    @pytest.mark.parametrize(("value", "met"), [(0.0, "yes"), (1.0, "no")])
    def test_a_limit_may_be_zero(self, value, met):
        assert Finding("x", value, at_most=0, unit="").met == met

    def test_no_goal_no_verdict(self):
        assert Finding("x", 1.0).met == "-"

    def test_the_file_says_when_where_and_what(self, tmp_path):
        finding = Finding.of("a / b", Ratio((1.0, 2.0), (1.0, 1.0)), at_most=1.6)

        path = record.write("P0", [finding], threads=1, rounds=2, folder=tmp_path)

        found = json.loads(path.read_text())
        assert {"date", "commit", "cpu", "torch", "threads", "rounds"} <= set(found)
        assert found["findings"][0]["ratios"] == [1.0, 2.0]
        assert found["findings"][0]["measured"] == 1.5
        assert '"ratios": [1.0, 2.0]' in path.read_text()

    def test_the_table_has_a_line_a_finding(self):
        lines = record.table_lines([("P0", Finding("a / b", 1.5, at_most=1.6))])

        assert "P0" in lines[-1]
        assert "<= 1.6 x" in lines[-1]
        assert lines[-1].endswith("yes")


class TestSetting:
    def test_the_small_network_is_the_one_that_the_goals_name(self):
        network = SmallCNN(28, 1, 10)
        parameters = sum(p.numel() for p in network.parameters())
        convolutions = [(28, 1, 32), (14, 32, 64), (7, 64, 128)]
        flops = sum(2 * side**2 * 9 * before * after for side, before, after in convolutions) + 2 * 1152 * 10

        assert parameters == pytest.approx(0.10e6, rel=0.05)
        assert flops == pytest.approx(14.9e6, rel=0.01)
        assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)

    def test_a_call_of_a_training_is_an_epoch(self):
        training = Training(SMALL_CNN, TINY)

        training()
        training()

        assert training.trainer.clock.cursor.total_epochs == 2
        assert training.trainer.clock.cursor.total_steps == 4

    def test_the_bare_loop_starts_from_the_same_network_and_sees_as_many_images(self):
        batches = Batches(CONVNET, TINY)
        training, bare = Training(CONVNET, TINY), BareLoop(CONVNET, TINY, batches)
        ours = training.method.classifier.state_dict()

        assert all(torch.equal(ours[name], value) for name, value in bare.network.state_dict().items())
        assert sorted(torch.cat([labels for _, labels in batches()]).tolist()) == sorted(data(CONVNET, 32)[1].tolist())
        before = [p.clone() for p in bare.network.parameters()]
        bare()
        assert any(not torch.equal(a, b) for a, b in zip(before, bare.network.parameters(), strict=True))

    def test_float32_runs_in_pytorchs_own_layout(self):
        training = Training(SMALL_CNN, TINY, channels_last=False)
        layouts = []
        training.method.classifier.body[0].register_forward_hook(
            lambda module, inputs, output: layouts.append(output.is_contiguous())
        )

        training()

        assert layouts == [True, True]


@pytest.mark.parametrize("benchmark", [speed.p1, speed.p2, speed.p3, speed.p7, speed.p8, speed.p9])
def test_every_ratio_is_measured(benchmark):
    findings = benchmark(TINY)

    assert findings
    assert all(finding.measured > 0 for finding in findings)
    assert any(finding.limit != "-" for finding in findings)


def test_jpeg_decoding_is_compared_with_pillows():
    usual, unconverted = reading.p16(rounds=1, count=20)

    assert usual.limit == ">= 5 x"
    assert min(usual.measured, unconverted.measured) > 0


class TestAudit:
    def test_the_data_are_those_of_the_protocol(self, tmp_path):
        audit_scale.write_input(tmp_path, 25_000, 8)
        labels, probs = audit_scale.read_input(tmp_path, mapped=True)
        wrong = np.load(tmp_path / "wrong.npy")

        assert probs.dtype == np.float32
        assert np.allclose(probs.sum(axis=1), 1, atol=1e-6)
        assert wrong.mean() == pytest.approx(0.2, abs=0.01)
        assert np.bincount(labels).min() > 2900
        # The largest is the true class nearly always.
        assert (probs.argmax(axis=1) == labels)[wrong].mean() < 0.05
        assert (probs.argmax(axis=1) == labels)[~wrong].mean() > 0.95

    def test_f1_by_hand(self):
        found, wrong = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
        assert audit_scale.f1(found, wrong) == pytest.approx(2 * (2 / 3) ** 2 / (4 / 3))

    @pytest.mark.parametrize("benchmark", [audit_speed.p10, audit_speed.p11])
    def test_cleanlab_is_compared(self, benchmark):
        pytest.importorskip("cleanlab")
        first, second = benchmark(((2000, 4), (500, 6)), rounds=1)
        assert first.limit != second.limit
        assert min(first.measured, second.measured) > 0

    def test_the_joint_is_compared_with_a_sum(self):
        (finding,) = audit_speed.p13(((500, 4),), rounds=1)
        assert finding.limit == "<= 30 x"

    def test_imagehash_is_compared(self):
        pytest.importorskip("imagehash")
        (finding,) = audit_speed.p15(images=3, rounds=1)
        assert finding.limit == ">= 5.5 x"

    def test_planted_copies_are_found_on_the_graph(self):
        near, far = audit_speed.graph_findings(audit_speed._embeddings(300, 30, 20))
        assert np.flatnonzero(near).tolist() == [*range(20), *range(280, 300)]
        assert far.shape == (300,)

    @pytest.mark.slow
    def test_a_process_of_its_own_measures_memory(self, tmp_path):
        audit_scale.write_input(tmp_path, 2000, 5)
        for mapped in (False, True):
            found = audit_scale.in_a_process("winnow", tmp_path, mapped=mapped, rounds=1)
            assert found["f1"] > 0.9
            assert 0 <= found["rise_mb"] < 30

    def test_what_is_not_installed_is_skipped_with_a_reason(self, monkeypatch, capsys):
        monkeypatch.setattr(audit_speed, "find_spec", lambda name: None)
        monkeypatch.setattr(record, "write", lambda *arguments: pytest.fail("nothing was measured"))
        assert command.main(["P10", "p14"]) == 0
        assert "P10: skipped, cleanlab not installed" in capsys.readouterr().err


def test_a_folder_is_opened_and_read():
    opened, loaded = reading.reading(files=30)

    assert opened.met == "yes"
    assert loaded.measured > 0


@pytest.mark.slow
@pytest.mark.skipif(find_spec("faiss") is None, reason="the extra faiss is not here")
def test_both_searches_of_the_neighbour_graph_are_timed_and_agree():
    *searches, differ, outliers = neighbours.neighbour_graph(points=200)

    assert [finding.what.split(", ")[1] for finding in searches] == ["faiss", "torch"]
    assert differ.measured == 0
    assert outliers.measured > 0


def test_a_streamed_source_is_read_once():
    steps, epochs, reads, rise = reading.streaming(TINY, images=64, epochs=2, counts=(64, 128))

    assert reads.measured == 1
    assert min(steps.measured, epochs.measured) > 0
    assert rise.unit == "MB"


def test_pillow_images_are_normalised_crops():
    images = np.full((1, 8, 8, 3), 51, np.uint8)
    dataset = speed.PillowImages(images, np.array([7]), (0.1, 0.1, 0.1), (0.5, 0.5, 0.5))

    image, label = dataset[0]

    assert label == 7
    assert image.shape == (3, 8, 8)
    assert torch.allclose(image, torch.tensor(0.2))


def test_activations_of_a_batch_are_counted_once():
    kept = memory.kept_for_backward(Training(Case("mlp", 28, 1, 16), TINY))

    # Input and two hidden layers in bfloat16, the logits' log-probabilities in float32, and casts of three weights.
    activations = 16 * (784 + 256 + 256) * 2
    weights = (784 * 256 + 256 * 256 + 256 * 10) * 2
    assert activations <= kept <= 2 * (activations + weights)


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own():
    (finding,) = memory.memory((("mlp", 256, 28, 1),))

    assert finding.details["peak_mb"] > finding.details["imports_mb"] > 0


def test_the_help_text_is_timed_and_needs_no_torch():
    wall, torch_loaded = starting.start(rounds=1, demo=False)

    assert wall.measured > 0
    assert torch_loaded.measured == 0


def test_names_are_taken_in_the_order_of_the_goals():
    assert command.chosen(["memory", "p2", "P1"]) == ["P1", "P2", "memory"]
    assert command.chosen(["speed"]) == [f"P{number}" for number in (1, 2, 3, *range(7, 17))]
    assert command.chosen([]) == list(command.NAMES)
    with pytest.raises(ValueError, match="no benchmark is called 'P5'"):
        command.chosen(["P5"])


def test_a_run_writes_its_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "run", lambda name: ([Finding("a / b", 3.0, at_most=1.0)], 1, 7))
    written = []
    monkeypatch.setattr(record, "write", lambda *arguments: written.append(arguments) or Path())

    assert command.main(["P1"]) == 1

    assert [name for name, *_ in written] == ["P1"]
    assert "a / b" in capsys.readouterr().out
