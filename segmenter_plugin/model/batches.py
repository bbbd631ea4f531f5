"""Which rows make up each training step: a pure function of seed and epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

Ints = npt.NDArray[np.int64]

#: What another pass through a network costs beside its positions, in positions.
_PASS_COST = 1024


def epoch_batches(lengths: Ints, batch_size: int, buckets: int, *, seed: int, epoch: int, least: int = 1) -> list[Ints]:
    """Batches of about as many positions each, so that little is padding and every step costs the same.

    The shuffled rows are cut into windows; within each, rows are sorted by length, and cut again where equal shares of
    positions end. A batch of short sequences thus holds more users than one of long ones.

    Args:
        lengths: Events of each row, (N,).
        batch_size: Mean users a batch, at most.
        buckets: Batches a window; 1 leaves lengths mixed.
        seed: Of the order.
        epoch: Each has another order.
        least: Fewest rows of a batch, at most N.

    Returns:
        Rows of each batch, in random order; their number depends on N, `batch_size`, `buckets` and `least` alone.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    windows = np.array_split(order, max(1, min(math.ceil(len(order) / (batch_size * buckets)), len(order) // least)))
    batches = [batch for window in windows for batch in _equal_shares(window, lengths, batch_size, least)]
    return [batches[at] for at in generator.permutation(len(batches))]


def _equal_shares(window: Ints, lengths: Ints, batch_size: int, least: int) -> list[Ints]:
    count = max(1, min(math.ceil(len(window) / batch_size), len(window) // least))
    if count == 1:
        return [window]
    by_length = window[np.argsort(-lengths[window], kind="stable")]
    # The context token is a position, too.
    positions = np.cumsum(lengths[by_length] + 1)
    number = np.arange(1, count)
    cuts = np.searchsorted(positions, positions[-1] * number / count)
    # No batch below `least` rows, however long one of them is.
    cuts = np.maximum.accumulate(np.maximum(cuts, least * number) - least * number) + least * number
    cuts = np.minimum(cuts, len(window) - least * (count - number))
    return np.split(by_length, cuts)


def alike(rows: Ints, lengths: Ints) -> list[Ints]:
    """A batch in parts of like length, where that saves more padding than another pass through the network costs.

    Gradients of the parts add up to the batch's: a batch of mixed lengths learns as one, and pads as several.

    Args:
        rows: Of the batch, (B,).
        lengths: Events of each row of all, (N,).

    Returns:
        Parts that together hold each row once, longest first.
    """
    by_length = rows[np.argsort(-lengths[rows], kind="stable")]
    ordered = lengths[by_length]
    saved = (ordered[0] - ordered) * np.arange(len(rows), 0, -1)
    cut = int(np.argmax(saved))
    if saved[cut] <= _PASS_COST:
        return [by_length]
    return alike(by_length[:cut], lengths) + alike(by_length[cut:], lengths)


class EpochSampler(Sampler[list[int]]):
    """This process's share of each of an epoch's batches, by `epoch_batches`.

    A step's batch is dealt out to all processes: steps, and what each learns from, do not depend on their number.

    Args:
        lengths: Events of each row, (N,).
        batch_size: Mean users a step, of all processes together.
        buckets: See `epoch_batches`.
        seed: Of the order.
        process: Number of this process.
        processes: How many there are; at most N.
    """

    def __init__(
        self, lengths: Ints, batch_size: int, buckets: int, *, seed: int, process: int = 0, processes: int = 1
    ) -> None:
        self._lengths, self._batch_size, self._buckets, self._seed = lengths, batch_size, buckets, seed
        self._process, self._processes = process, processes
        self._epoch = 0
        self._count = len(self._batches())

    @property
    def mean_users(self) -> float:
        """Rows a step, of all processes together."""
        return len(self._lengths) / self._count

    def set_epoch(self, epoch: int) -> None:
        """Take the batches of another epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches():
            # Sorted rows dealt out in turn: every process gets as many positions.
            yield batch[self._process :: self._processes].tolist()

    def _batches(self) -> list[Ints]:
        return epoch_batches(
            self._lengths,
            self._batch_size,
            self._buckets,
            seed=self._seed,
            epoch=self._epoch,
            least=self._processes,
        )
