"""`benchmarks/prep.py` on few cells: its figures are there, and both paths select the same genes."""

import json
import os
import subprocess
import sys


def test_both_paths_select_the_same_genes(root, blood, tmp_path):
    files = [str(blood / f"{name}.h5ad") for name in ("citefuse_eccite", "kang_ctrl_stim")]
    options = ["--cells", "1500", "--chunk-cells", "600", "--repeats", "1", "--json", str(tmp_path / "prep.json")]
    done = subprocess.run(
        [sys.executable, str(root / "benchmarks/prep.py"), "--h5ad", *files, *options, "--folder", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "prep.json").read_text())
    assert {"ratio_vs_scanpy", "cells_per_s_per_core", "exponent", "peak_gib"} <= figures.keys()
    assert figures["usual"]["other_genes_without_tie"] == 0
    assert figures["usual"]["other_genes"] < 0.02 * figures["usual"]["genes"]
    assert 0.05 < figures["peak_gib"] < 1
    assert f"ratio {figures['ratio_vs_scanpy']:.1f}" in done.stdout
