"""The tables of Tao et al. 2019, ours beside the paper's."""

from lesionkit.tables.lines import Line, table_lines
from lesionkit.tables.plot import draw_curves
from lesionkit.tables.report import TITLES, to_csv, to_markdown
from lesionkit.tables.variants import SLICES, TABLES, Variant, needed, variants_of

__all__ = [
    "SLICES",
    "TABLES",
    "TITLES",
    "Line",
    "Variant",
    "draw_curves",
    "needed",
    "table_lines",
    "to_csv",
    "to_markdown",
    "variants_of",
]
