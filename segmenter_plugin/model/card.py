"""The model card: what a reader of an artifact should know, written from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEMPLATE = """# User encoder {model_version}

Turns one user's behaviour (the last {length} events before a cutoff, and activity aggregates) into an embedding of
{embedding_size} numbers{scores}.

| | |
|---|---|
| model_version | `{model_version}` |
| trained_through | {trained_through}: use it only for cutoffs at or after this time |
| backbone | {backbone}, {hidden_size} wide, {layers} layers |
| event columns | {columns} |
| aggregates | {aggregates} |

## Tasks
{tasks}

## What training measured
{metrics}

These come from users that were held out of training at the same cutoffs. Quality at a later cutoff is what
`segmenter evaluate` measures.

## Use
```python
from segmenter_plugin.model import UserEncoder

embeddings = UserEncoder.from_pretrained("this folder").encode(behaviour_table)  # (users, {embedding_size}) float32
```

## Limits
- It knows the values of its vocabulary; newer items and categories count as unknown until it is trained again.
- Probabilities and money are as of the cutoffs that it was trained on; seasons that these do not cover shift both.
- Embeddings of different model versions cannot be compared with each other.

Made with {versions}.
"""


def model_card(config: Mapping[str, Any]) -> str:
    """The card of an artifact's config.json, as Markdown."""
    encoder, features = config["encoder"], config["features"]
    backbone = encoder["backbone"]
    tasks = [f"- {_task(target)}" for target in config["tasks"]]
    metrics = [f"- {name}: {_number(value)}" for name, value in config["metrics"].items()]
    return _TEMPLATE.format(
        model_version=config["model_version"],
        length=features["length"],
        embedding_size=encoder["embedding_size"],
        scores=" and its tasks' scores" if tasks else "",
        trained_through=config["trained_through"],
        backbone=backbone["model_type"],
        hidden_size=backbone.get("hidden_size", "?"),
        layers=backbone.get("num_hidden_layers", "?"),
        columns=", ".join(f"{name} ({size})" for name, size in encoder["sizes"].items()),
        aggregates=len(features["context"]["names"]),
        tasks="\n".join(tasks) or "None: it is pretrained on sequences alone.",
        metrics="\n".join(metrics) or "Nothing.",
        versions=", ".join(f"{package} {number}" for package, number in config["versions"].items()),
    )


def _task(target: Mapping[str, Any]) -> str:
    task = target["task"]
    gap = f", starting {task['gap_days']} days after the cutoff" if task.get("gap_days") else ""
    classes = f"; classes {', '.join(target['classes'])}" if target["classes"] else ""
    return f"{task['name']}: {task['kind']}, {task['prediction_days']} days{gap}{classes}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
