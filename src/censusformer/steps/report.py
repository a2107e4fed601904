"""Read what all steps wrote about a data set and a run; write one self-contained page and a model card about them."""

import argparse
import logging
import re
from pathlib import Path

from censusformer.files import atomic

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the step's options."""
    parser.add_argument("--samples", type=Path, required=True, help="every sample met, chosen or not (Parquet)")
    parser.add_argument("--provenance", type=Path, required=True, help="census and data sets (JSON)")
    parser.add_argument("--genes", type=Path, required=True, help="the kept genes (Parquet)")
    parser.add_argument("--hvg", type=Path, nargs="+", required=True, help="the chunks' selected genes (Parquet)")
    parser.add_argument("--cells", type=Path, nargs="+", required=True, help="the chunks' kept cells (Parquet)")
    parser.add_argument("--split", type=Path, nargs="+", required=True, help="the chunks' splits (Parquet)")
    parser.add_argument("--shards", type=Path, required=True, help="the list of the shards (shards.json)")
    parser.add_argument("--vocab", type=Path, required=True, help="the vocabulary (vocab.json)")
    parser.add_argument("--metrics", type=Path, required=True, help="the losses of training (metrics.csv)")
    parser.add_argument("--model-args", type=Path, required=True, help="what training recorded (args.json)")
    parser.add_argument("--evaluation", type=Path, required=True, help="folder of evaluate's tables")
    parser.add_argument("--tasks", type=Path, nargs="*", default=[], help="finetune/{task}/scores.json of tasks")
    parser.add_argument("--settings", default="", help="the effective configuration, as text or as the name of a file")
    parser.add_argument("--benchmarks", type=Path, nargs="*", default=[], help="folders of Snakemake's benchmark files")
    parser.add_argument("--out", type=Path, required=True, help="the HTML file to write")
    parser.add_argument("--out-card", type=Path, help="the model card (default: MODEL_CARD.md beside the page)")


def run(args: argparse.Namespace) -> None:
    """Write the page and the card."""
    from censusformer.report.card import render_card
    from censusformer.report.page import render
    from censusformer.steps._report import read_run

    run = read_run(args, settings_text(args.settings))
    page, card = render(run), render_card(run)
    for path, text in ((args.out_card or args.out.parent / "MODEL_CARD.md", card), (args.out, page)):
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    logger.info("%s: %.1f MB. %s", args.out, len(page.encode()) / 1e6, _headline(page))


def settings_text(given: str) -> str:
    """The configuration itself, where `given` is the name of a file its content."""
    one_line = "\n" not in given and len(given) < 4096
    return Path(given).read_text(encoding="utf-8") if one_line and Path(given).is_file() else given


def _headline(page: str) -> str:
    found = re.search(r'<h1 id="headline">(.*?)</h1>', page)
    return found[1].replace("&#39;", "'") if found else ""
