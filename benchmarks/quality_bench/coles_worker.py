"""Runs in the environment of pytorch-lifestream: sequences (npz) to CoLES embeddings (npz).

python coles_worker.py SEQUENCES EMBEDDINGS EPOCHS SEED
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytorch_lightning as pl
import torch
from ptls.data_load.datasets import MemoryMapDataset
from ptls.data_load.iterable_processing import SeqLenFilter
from ptls.data_load.utils import collate_feature_dict
from ptls.frames import PtlsDataModule
from ptls.frames.coles import ColesDataset, CoLESModule
from ptls.frames.coles.split_strategy import SampleSlices
from ptls.nn import RnnSeqEncoder, TrxEncoder

_WIDTH = 64


def main() -> None:
    """Train on the training rows, embed both sides."""
    given, wanted, epochs, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    pl.seed_everything(seed)
    with np.load(given, allow_pickle=False) as arrays:
        columns, sizes = arrays["columns"].tolist(), arrays["sizes"].tolist()
        sides = {side: records(arrays, side, columns) for side in ("training", "judged")}
    numbers = [name for name in sides["training"][0] if name not in (*columns, "event_time")]
    encoder = RnnSeqEncoder(
        trx_encoder=TrxEncoder(
            embeddings={name: {"in": size, "out": 16} for name, size in zip(columns, sizes, strict=True)},
            numeric_values=dict.fromkeys(numbers, "identity"),
            embeddings_noise=0.003,
        ),
        hidden_size=_WIDTH,
        type="gru",
    )
    model = CoLESModule(
        seq_encoder=encoder,
        optimizer_partial=partial(torch.optim.Adam, lr=1e-3),
        lr_scheduler_partial=partial(torch.optim.lr_scheduler.StepLR, step_size=5, gamma=0.7),
    )
    long_enough = MemoryMapDataset(data=sides["training"], i_filters=[SeqLenFilter(min_seq_len=10)])
    slices = ColesDataset(long_enough, splitter=SampleSlices(split_count=5, cnt_min=5, cnt_max=64))
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(model, PtlsDataModule(train_data=slices, train_num_workers=0, train_batch_size=128))
    np.savez(wanted, **{side: embed(model, rows) for side, rows in sides.items()})


def records(arrays: np.lib.npyio.NpzFile, side: str, columns: list[str]) -> list[dict[str, torch.Tensor]]:
    """One dictionary a user, as pytorch-lifestream reads them."""
    ends = np.cumsum(arrays[f"{side} lengths"])[:-1]
    numeric = arrays[f"{side} numeric"]
    flat = {name: arrays[f"{side} {name}"].astype(np.int64) for name in columns}
    flat |= {f"number_{place}": numeric[:, place] for place in range(numeric.shape[1])}
    flat["log_gap"] = np.log1p(np.maximum(arrays[f"{side} gaps"], 0)) / 3
    flat["log_age"] = np.log1p(np.maximum(arrays[f"{side} ages"], 0)) / 3
    flat["event_time"] = -arrays[f"{side} ages"]
    parts = {name: np.split(values, ends) for name, values in flat.items()}
    return [{name: torch.from_numpy(part[row].copy()) for name, part in parts.items()} for row in range(len(ends) + 1)]


def embed(model: CoLESModule, rows: list[dict[str, torch.Tensor]]) -> np.ndarray:
    """Frozen embeddings, (N, width)."""
    model.eval()
    starts = range(0, len(rows), 256)
    with torch.inference_mode():
        parts = [model(collate_feature_dict(rows[start : start + 256])).numpy() for start in starts]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
