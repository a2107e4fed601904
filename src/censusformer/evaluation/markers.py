"""Genes that are known to mark cell types of blood.

Chosen from the marker lists of Azimuth's reference of human PBMC and bone marrow (Hao et al. 2021, Cell 184:3573,
doi:10.1016/j.cell.2021.04.048; https://azimuth.hubmapconsortium.org/references), most specific ones first; a gene that
marks two of these types stands with neither. Lists of the field, not of this data: nothing here is fitted.
"""

SOURCE = "after Azimuth's references of human PBMC and bone marrow (Hao et al. 2021, doi:10.1016/j.cell.2021.04.048)"

MARKERS: dict[str, tuple[str, ...]] = {
    "T cell": ("CD3D", "CD3E", "CD3G", "TRAC", "IL7R", "MAL", "CD8A", "CD8B", "LEF1", "TCF7", "CCR7", "CD2"),
    "NK cell": ("NKG7", "KLRD1", "GNLY", "PRF1", "KLRF1", "GZMB", "SPON2", "FGFBP2", "CLIC3", "XCL1", "XCL2"),
    "B cell": ("CD79A", "CD79B", "MS4A1", "BANK1", "RALGPS2", "TNFRSF13C", "IGHM", "IGHD", "TCL1A", "CD22", "FCRLA"),
    "plasma cell": ("MZB1", "TNFRSF17", "DERL3", "JCHAIN", "IGHA1", "IGHG1", "TXNDC5", "POU2AF1", "SDC1"),
    "monocyte": ("LYZ", "S100A8", "S100A9", "S100A12", "VCAN", "CD14", "FCN1", "MNDA", "CTSS", "SERPINA1", "MS4A7"),
    "dendritic cell": ("FCER1A", "CLEC10A", "CD1C", "ENHO", "CLEC9A", "LILRA4", "PLD4", "SERPINF1", "IL3RA", "ITM2C"),
    "platelet": ("PPBP", "PF4", "NRGN", "GNG11", "CAVIN2", "TUBB1", "GP9", "CLU", "ITGA2B", "TREML1"),
    "erythroid cell": ("HBA1", "HBA2", "HBB", "HBD", "HBM", "AHSP", "ALAS2", "CA1", "SLC4A1", "GYPA"),
}


def marker_genes(names: list[str] | tuple[str, ...]) -> dict[str, list[int]]:
    """Places of each set's genes among symbols, whatever their case (mouse genes are written Cd79a)."""
    place = {name.upper(): i for i, name in enumerate(names)}
    return {kind: [place[gene] for gene in genes if gene in place] for kind, genes in MARKERS.items()}
