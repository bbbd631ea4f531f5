"""What our objects are called in a Feast registry, and under which folder their rows are published."""

from __future__ import annotations

import re
from dataclasses import dataclass

from segmenter_plugin.config import Config
from segmenter_plugin.errors import ConfigError


@dataclass(frozen=True)
class FeatureNames:
    """Names of one generation's views and service.

    The generation stands in the names because Feast makes no new version of a view whose only change is a tag, and
    embeddings of two generations must never meet in one column.

    Args:
        generation: ``g1``, ``g2``, …
        prefix: Put before every registered name; the published folders go without it, so that one root may serve
            several registries.

    Raises:
        ConfigError: The generation or the prefix cannot be part of a Feast name.
    """

    generation: str = "g1"
    prefix: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"g[1-9][0-9]*", self.generation):
            raise ConfigError(
                f"generation = {self.generation!r} is not a generation.", hint="write g1, g2, … as [store] has it."
            )
        if not re.fullmatch(r"([A-Za-z][A-Za-z0-9_]*)?", self.prefix):
            raise ConfigError(
                f"name_prefix = {self.prefix!r} cannot begin a Feast name.",
                hint="use letters, digits and _, a letter first, for example shop_.",
            )

    @classmethod
    def of(cls, config: Config) -> FeatureNames:
        """The names that a configuration gives."""
        return cls(config.store.generation, config.store.name_prefix)

    @property
    def activity(self) -> str:
        """Folder of the model-free aggregates; they have no generation."""
        return "user_activity"

    @property
    def embedding(self) -> str:
        """Folder of the embedding."""
        return f"user_embedding_{self.generation}"

    @property
    def scores(self) -> str:
        """Folder of the scores."""
        return f"user_scores_{self.generation}"

    @property
    def segment(self) -> str:
        """Folder of the segment."""
        return f"user_segment_{self.generation}"

    @property
    def folders(self) -> tuple[str, ...]:
        """All published folders, in the order in which they are published."""
        return (self.activity, self.embedding, self.scores, self.segment)

    @property
    def views(self) -> tuple[str, ...]:
        """Registered names of the views, in the order of `folders`."""
        return tuple(self.registered(folder) for folder in self.folders)

    @property
    def service(self) -> str:
        """Registered name of the feature service that ranking models ask."""
        return self.registered(f"ranking_{self.generation}")

    @property
    def affinity(self) -> str:
        """Registered name of the on-demand view that holds a user against an item; it has no folder."""
        return self.registered(f"user_item_affinity_{self.generation}")

    @property
    def item_service(self) -> str:
        """Registered name of the feature service that asks for the affinity too, so needs an item vector a row."""
        return self.registered(f"ranking_items_{self.generation}")

    def registered(self, folder: str) -> str:
        """Registered name of a view or service."""
        return f"{self.prefix}{folder}"

    def push_source(self, folder: str) -> str:
        """Registered name of a view's push source."""
        return f"{self.registered(folder)}_push"
