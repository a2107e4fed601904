"""The demo through `--profile slurm`."""

import math

import yaml

from tests.faults.harness import fingerprints


def test_every_file_is_that_of_a_local_run(finished, expected):
    """All results, byte for byte but for clocks: shards, the curve, the model, the page."""
    found = fingerprints(finished.results)
    assert sum("/shards/" in name for name in found) == 6
    assert {"demo/base/metrics.csv", "demo/base/best_model.pt", "demo/base/report.html"} <= found.keys()
    assert found == expected


def test_what_the_jobs_ask_for(finished):
    by_rule = {rule: records[0] for rule, records in finished.records.items()}
    gpus = {rule: found["TresPerNode"] for rule, found in by_rule.items() if "TresPerNode" in found}
    assert gpus == dict.fromkeys(["pretrain", "evaluate", "embeddings"], "gres:gpu:1")
    assert {found["MinMemoryNode"] for found in finished.records["count"]} == {"2000M"}
    assert by_rule["select"]["TimeLimit"] == "01:00:00"
    assert by_rule["pretrain"]["TimeLimit"] == "1-00:00:00"


def test_local_rules_stay_local(finished):
    assert not {"all", "effective_config"} & finished.records.keys()
    assert (finished.results / "demo/base/config.yaml").is_file()


def test_a_second_call_submits_nothing(finished):
    code = finished.start().wait()
    assert code == 0 and "Nothing to be done" in finished.output()


def test_a_real_run_is_tens_of_submissions(finished, root):
    """300,000 cells in chunks of the preset's size; and one more, since training and test samples begin their own."""
    preset = yaml.safe_load((root / "presets/blood-300k.yaml").read_text())
    chunks = math.ceil(preset["census"]["max_cells"] / preset["chunk"]["cells"]) + 1
    numbers = {rule: len(records) for rule, records in finished.records.items()}
    once = [rule for rule, number in numbers.items() if number == 1]
    by_chunk = [rule for rule, number in numbers.items() if number == numbers["download"]]
    assert len(once) + len(by_chunk) == len(numbers)
    assert len(once) + chunks * len(by_chunk) < 60


def test_an_edited_module_runs_what_imports_it(copied):
    module = copied.folder / "src/censusformer/report/page.py"
    module.write_text(module.read_text() + "\n_EDITED = True\n")
    assert copied.start().wait() == 0, copied.output()[-6000:]
    shown = copied.output()
    assert len(copied.submitted()) == 1 and "rule_report" in shown
