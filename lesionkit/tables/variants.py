"""The detectors that the paper's tables compare, and which of them each table needs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lesionkit.models.config import DetectorConfig

TABLES = (1, 2, 3)
SLICES = (9, 15, 21)  # of Table 1
ABLATION_SLICES = 15  # of Tables 2 and 3


@dataclass(frozen=True)
class Variant:
    """3DCE with so many slices (3M), with one attention module, both or none."""

    slices: int
    contextual: bool
    spatial: bool

    @classmethod
    def of(cls, detector: DetectorConfig) -> "Variant":
        """The variant that a detector is."""
        return cls(3 * detector.num_images, detector.contextual, detector.spatial)

    @property
    def name(self) -> str:
        """As the paper calls it, without the slices."""
        if self.contextual and self.spatial:
            return "3DCE_CS_Att"
        if self.contextual or self.spatial:
            return f"3DCE + {'C' if self.contextual else 'S'}_Att"
        return "improved R-FCN" if self.slices == 3 else "3DCE"

    @property
    def slug(self) -> str:
        """The name in a file's name."""
        return f"{self.name.lower().replace(' + ', '_').replace(' ', '_')}-{self.slices}-slices"

    @property
    def preset(self) -> str:
        """The preset that it is trained with; C_Att and S_Att alone share that of both."""
        if self.contextual or self.spatial:
            return "3dce_cs_att"
        return "improved_rfcn" if self.slices == 3 else "3dce"

    @property
    def baseline(self) -> "Variant":
        """The same detector without attention."""
        return replace(self, contextual=False, spatial=False)

    def detector(self, base: DetectorConfig) -> DetectorConfig:
        """``base`` as this variant."""
        preprocessing = replace(base.preprocessing, num_images=self.slices // 3)
        return replace(
            base,
            preprocessing=preprocessing,
            contextual=self.contextual,
            spatial=self.spatial,
        )


def variants_of(table: int, slices: Sequence[int] = SLICES) -> list[Variant]:
    """The rows of a table of the paper, in order; ``slices`` are those of Table 1."""
    none, both = (False, False), (True, True)
    if table == 1:
        rows = [(count, *modules) for modules in (none, both) for count in slices]
        return [Variant(3, *none), *(Variant(*row) for row in rows)]
    alone = [(True, False), (False, True)] if table == 3 else []
    return [Variant(ABLATION_SLICES, *modules) for modules in (none, *alone, both)]


def needed(tables: Iterable[int], slices: Sequence[int] = SLICES) -> list[Variant]:
    """The variants of several tables, each once."""
    return list(dict.fromkeys(v for table in tables for v in variants_of(table, slices)))
