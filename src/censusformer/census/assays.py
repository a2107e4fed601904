"""Assay labels and the Experimental Factor Ontology's ids that the Census gives them."""

import re

# labels and ids as in the CELLxGENE schema (chanzuckerberg/single-cell-curation) and in the Census builder's list
ASSAYS = {
    "10x 3' v1": "EFO:0009901",
    "10x 3' v2": "EFO:0009899",
    "10x 3' v3": "EFO:0009922",
    "10x 3' v4": "EFO:0022604",
    "10x 3' transcription profiling": "EFO:0030003",
    "10x 5' v1": "EFO:0011025",
    "10x 5' v2": "EFO:0009900",
    "10x 5' v3": "EFO:0022605",
    "10x 5' transcription profiling": "EFO:0030004",
    "10x gene expression flex": "EFO:0022606",
    "10x multiome": "EFO:0030059",
    "10x technology": "EFO:0008995",
    "BD Rhapsody Targeted mRNA": "EFO:0700004",
    "BD Rhapsody Whole Transcriptome Analysis": "EFO:0700003",
    "CEL-seq": "EFO:0008679",
    "CEL-seq2": "EFO:0010010",
    "CITE-seq": "EFO:0009294",
    "DroNc-seq": "EFO:0008720",
    "Drop-seq": "EFO:0008722",
    "GEXSCOPE technology": "EFO:0700011",
    "MARS-seq": "EFO:0008796",
    "Parse Evercode Whole Transcriptome v1": "EFO:0022600",
    "Parse Evercode Whole Transcriptome v2": "EFO:0022601",
    "Parse Evercode Whole Transcriptome v3": "EFO:0022602",
    "SPLiT-seq": "EFO:0009919",
    "STRT-seq": "EFO:0008953",
    "Seq-Well": "EFO:0008919",
    "Seq-Well S3": "EFO:0030019",
    "Smart-seq": "EFO:0008930",
    "Smart-seq v4": "EFO:0700016",
    "Smart-seq2": "EFO:0008931",
    "Smart-seq3": "EFO:0022488",
    "TruDrop": "EFO:0700010",
    "inDrop": "EFO:0008780",
    "microwell-seq": "EFO:0030002",
    "sci-RNA-seq": "EFO:0010550",
    "sci-RNA-seq3": "EFO:0030028",
}


def term_of(label: str) -> str:
    """The ontology id of an assay's label, '' where it is not known; case, spaces, hyphens and primes do not matter."""
    return _TERMS.get(_plain(label), "")


def _plain(label: str) -> str:
    """Letters and digits alone; a prime that stands for an end of the molecule may be spelt out or left out."""
    return re.sub(r"[^a-z0-9]", "", label.casefold().replace("prime", ""))


_TERMS = {_plain(label): term for label, term in ASSAYS.items()}
