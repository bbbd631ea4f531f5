"""The model card: what a reader of an artifact should know, written from its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_TEMPLATE = """# User encoder {model_version}

Turns one user's behaviour (the last {length} events before a cutoff, and activity aggregates) into an embedding of
{embedding_size} numbers{scores}.

| | |
|---|---|
| model_version | `{model_version}` |
| trained_through | {trained_through}: the latest event time that any weight has seen, label windows included |
| backbone | {backbone}, {hidden_size} wide, {layers} layers |
| event columns | {columns} |
| aggregates | {aggregates} |

## Intended use
As features of models that rank, target or budget for users of the shop whose events these are, at cutoffs at or after
`trained_through`: at earlier ones its numbers know what was then the future. Not for decisions about single persons
that the law or your terms keep from profiling, and not for users of another shop.

## Data
{data}

## Tasks
{tasks}
{value_score}
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
- It reads the last {length} events; of what came before it knows the aggregates alone.
- Probabilities and money are as of the cutoffs that it was trained on; seasons that these do not cover shift both.
- Users without any event get the embedding of their (empty) aggregates: it tells nothing that their absence does not.
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
        hidden_size=backbone.get("hidden_size", backbone.get("n_embd", "?")),
        layers=backbone.get("num_hidden_layers", backbone.get("n_layer", "?")),
        columns=", ".join(f"{name} ({size})" for name, size in encoder["sizes"].items()),
        aggregates=len(features["context"]["names"]),
        data=_data(config["data"]),
        tasks="\n".join(tasks) or "None: it is pretrained on sequences alone.",
        value_score=_value_score(config["tasks"]),
        metrics="\n".join(metrics) or "Nothing.",
        versions=", ".join(f"{package} {number}" for package, number in config["versions"].items()),
    )


def _data(data: Mapping[str, Any]) -> str:
    if not data:
        return "Not recorded."
    return "\n".join(
        [
            f"- cutoffs: {', '.join(data['cutoffs'])}; each example is a user at one of them",
            f"- observation window: the {data['observation_days']} days before the cutoff",
            f"- {data['users']:,} users, {data['events']:,} events read (one counts at each cutoff that sees it)",
            f"- {data['examples']:,} examples to train on",
            f"- {data['validation_examples']:,} examples of other users for early stopping",
            f"- these other users are a share of {data['validation_share']:g}, drawn with seed {data['seed']}",
        ]
    )


def _task(target: Mapping[str, Any]) -> str:
    task = target["task"]
    gap = f", starting {task['gap_days']} days after the cutoff" if task.get("gap_days") else ""
    classes = f"; classes {', '.join(target['classes'])}" if target["classes"] else ""
    if target.get("values"):
        classes += f", of each {task['target']} of {', '.join(target['values'])}"
    return f"{task['name']}: {task['kind']}, {task['prediction_days']} days{gap}{classes}"


def _value_score(tasks: Sequence[Mapping[str, Any]]) -> str:
    """How `value_score` is made; see `model.value_score`."""
    rated = [target for target in tasks if target["task"]["kind"] in ("binary", "value")]
    if not rated:
        return ""
    weights = [target["value_weight"] for target in rated]
    total = sum(weights)
    shares = [weight / total for weight in weights] if total else [1 / len(rated)] * len(rated)
    parts = [f"{share:.3g} x {_part(target)}" for share, target in zip(shares, rated, strict=True) if share]
    return (
        f"\n`value_score`, in [0, 1], is {' + '.join(parts)}. The part of money x is x / (x + m), m being the median "
        "of the training labels above 0.\n"
    )


def _part(target: Mapping[str, Any]) -> str:
    task = target["task"]
    if task["kind"] == "binary":
        return f"the probability of {task['name']}"
    return f"the part of {task['name']} (m = {target['scale']:.4g})"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
