"""What a run of Snakemake did to a results folder: the jobs that ran, and that all else kept its bytes and dates."""

import re
from collections import Counter

from censusformer.tokens.shards import file_sha256

#: {rule: its results, below the folder of the census, of its data set or of its run}
WRITES = {
    "demo": "demo/.*",
    "select": r"chunks/.*|samples\.parquet|provenance\.json",
    "download": r"{chunk}\.h5ad",
    "count": r"{chunk}\.counts\.parquet",
    "genes": r"(genes|gene_list)\.parquet",
    "hvg": r"(hvg|cells)/{chunk}\.parquet",
    "binning": r"binned/{chunk}\.h5ad",
    "split": r"split/{chunk}\.parquet",
    "tokenize": r"shards/(train|valid|test)/{chunk}\.parquet",
    "vocab": r"vocab\.json",
    "manifest": r"shards\.json",
    "pretrain": r"best_model\.pt|last\.ckpt|metrics\.csv|args\.json|vocab\.json|(tensorboard|work)/.*",
    "evaluate": "evaluation/.*",
    "embeddings": "evaluation/.*",
    "report": r"report\.html|MODEL_CARD\.md",
    "effective_config": r"config\.yaml",
    "sweep": r"sweep-{chunk}\.html",
}


def contents(folder):
    """{file: (its date, the SHA-256 of its bytes)}."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: (path.stat().st_mtime_ns, file_sha256(path)) for name, path in files.items()}


class Watch:
    """Which jobs ran since it was made, by their benchmark files; nothing but their files may have changed."""

    def __init__(self, project):
        self.root = project.path("")
        self.before = contents(self.root)

    def changed(self):
        """Files that are new, gone, or have another date or other bytes."""
        after = contents(self.root)
        return {name for name in after.keys() | self.before.keys() if after.get(name) != self.before.get(name)}

    def jobs(self):
        """(rule, chunk or nothing) of each job that ran; every other file of the folder kept its bytes and its date."""
        changed = self.changed()
        found = [re.fullmatch(r"(.*/|)benchmarks/(\w+)(?:/(.+))?\.tsv", name) for name in changed]
        ran = {(match[1], match[2], match[3] or "") for match in found if match}
        theirs = re.compile("|".join(self._files(*job) for job in ran) or "nothing")
        assert not [name for name in changed if not theirs.fullmatch(name)]
        return {(rule, chunk) for _, rule, chunk in ran if rule != "effective_config"}

    @staticmethod
    def _files(folder, rule, chunk):
        """The files that a job may write, as a pattern."""
        own = f"(logs|benchmarks)/{rule}{'/' * bool(chunk)}{chunk}\\.(log|tsv)"
        return f"{folder}({WRITES[rule].format(chunk=re.escape(chunk))}|{own})"

    def rules(self):
        return dict(Counter(rule for rule, _ in self.jobs()))
