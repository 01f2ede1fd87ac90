"""Training of all trials at the same time, scoring after each epoch, and stopping of low-scoring trials."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mlic.data import MultiLabelDataModule
from mlic.errors import InputError, check_choice
from mlic.evaluation.metrics import METRICS, ScoredImages
from mlic.features.dataset import MemoryRows
from mlic.models.classifier import Batch
from mlic.tuning.bank import Bank, Member, ready_to_score
from mlic.tuning.folds import Fold
from mlic.tuning.halving import stop_hopeless
from mlic.tuning.stacked_heads import structure_of
from mlic.tuning.trials import Trial

logger = logging.getLogger(__name__)

CPU_BANK_BYTES = 16e6
MOST_WORKERS = 8  # Python itself runs in one thread at a time


@dataclass(frozen=True)
class Schedule:
    """Schedule of a search.

    Attributes:
        max_epochs: number of epochs of a trial that is not stopped.
        rungs: epochs after which low-scoring trials are stopped.
        eta: at each rung, 1 / eta of the trials continue.
        metric: metric to select by, one of METRICS.
        last_epoch_counts: score trials by their last epoch instead of their best.
        average_from: epoch from which the weights are averaged; None for never.
        seed: seed of the run.
    """

    max_epochs: int
    rungs: Sequence[int]
    eta: float
    metric: str
    last_epoch_counts: bool
    average_from: int | None
    seed: int

    def __post_init__(self) -> None:
        """Check the metric."""
        check_choice("tune.metric", self.metric, METRICS)


class Search:
    """Trains all trials in all folds, and stops those with low scores.

    Without dropout, a trial is trained exactly like a run with its settings. With dropout, it draws different masks, so
    that their metrics differ slightly.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        members: Sequence[Member],
        datamodule: MultiLabelDataModule,
        folds: Sequence[Fold],
        schedule: Schedule,
    ) -> None:
        """Create a search.

        Args:
            trials: trials whose scores and states are updated.
            members: one member per trial.
            datamodule: data module of the rows of the folds.
            folds: K folds.
            schedule: schedule of the training.
        """
        self.members = dict(zip((trial.number for trial in trials), members, strict=True))
        self.trials = list(trials)
        self.datamodule, self.folds, self.schedule = datamodule, list(folds), schedule
        self.loaders = [datamodule.loader_of(fold.train, training=True) for fold in folds]
        first = next(members[0].heads[0].parameters())
        self.on_cpu = first.device.type == "cpu"
        self.workers = self._count_workers()

    def run(self) -> Trial:
        """Train until the last epoch and return the best trial.

        Raises:
            InputError: every trial diverged.
        """
        threads = torch.get_num_threads()
        # each worker computes on its share of the cores; threads started from here on inherit this number
        torch.set_num_threads(max(1, threads // self.workers))
        try:
            with ThreadPoolExecutor(self.workers) as pool:
                return self._run(pool)
        finally:
            torch.set_num_threads(threads)

    def _run(self, pool: ThreadPoolExecutor) -> Trial:
        running = list(self.trials)
        banks = self._make_banks(running)
        with self._progress(len(running)) as bar:
            for epoch in range(self.schedule.max_epochs):
                self._pass(pool, banks, epoch, bar)
                alive = [trial for trial in running if trial.state == "running"]
                if epoch + 1 in self.schedule.rungs:
                    alive = stop_hopeless(alive, self.schedule.eta, last=self.schedule.last_epoch_counts)
                if len(alive) < len(running):
                    running = alive
                    banks = self._make_banks(running)
                    bar.total = bar.n + len(running) * (self.schedule.max_epochs - epoch - 1)
                self._report(running, epoch + 1)
                if not running:
                    raise InputError(
                        "tune: the loss of every trial became infinite or NaN. Lower the learning rates "
                        "(tune.space.optimizer.lr), or check the features."
                    )
        for trial in running:
            trial.state = "finished"
        return max(running, key=lambda trial: (self.value(trial), -trial.number))

    def _pass(
        self, pool: ThreadPoolExecutor, banks: Sequence[tuple[list[int], Bank]], epoch: int, bar: tqdm
    ) -> None:
        """Train all banks for one epoch and score them."""
        for loader in self.loaders:
            loader.sampler.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue]

        stop, one_at_a_time = Event(), Lock()

        def train(numbered: tuple[list[int], Bank]) -> None:
            numbers, bank = numbered
            start = self.schedule.average_from
            average = start is not None and epoch >= start
            bank.train_epoch(epoch, self.loaders, average=average, stop=stop)
            with one_at_a_time:  # so that the features of val are in memory only once
                if not stop.is_set():
                    self._score([self.trials[number] for number in numbers], bank)
                    bar.update(len(numbers))

        try:
            for _ in pool.map(train, banks) if self.workers > 1 else map(train, banks):
                pass
        except BaseException:  # an error in a bank, or a signal: the others stop at their next batch
            stop.set()
            raise

    def value(self, trial: Trial) -> float:
        """Return the score by which a trial is ranked."""
        return trial.value(last=self.schedule.last_epoch_counts)

    def _progress(self, number: int) -> tqdm:
        return tqdm(
            total=number * self.schedule.max_epochs, unit="epoch", desc="heads", disable=None, leave=False
        )

    def _report(self, running: Sequence[Trial], epochs: int) -> None:
        if running and (epochs in self.schedule.rungs or epochs == self.schedule.max_epochs):
            best = max(running, key=self.value)
            logger.info(
                "tune: after epoch %d, %d of %d heads left; best %s on val %.4f (trial %d)",
                *(
                    epochs,
                    len(running),
                    len(self.trials),
                    self.schedule.metric,
                    self.value(best),
                    best.number,
                ),
            )

    def _count_workers(self) -> int:
        # several banks at a time on a CPU, unless rows are streamed from disk in one order
        in_memory = all(isinstance(loader.dataset.rows, MemoryRows) for loader in self.loaders)  # pyright: ignore
        return min(torch.get_num_threads(), MOST_WORKERS) if self.on_cpu and in_memory else 1

    def _make_banks(self, running: Sequence[Trial]) -> list[tuple[list[int], Bank]]:
        """Stack heads of the same structure up to the size of a bank, the largest first to balance the workers."""
        groups: dict[tuple, list[int]] = {}
        for trial in running:
            groups.setdefault(structure_of(self.members[trial.number].heads[0]), []).append(trial.number)
        limit = self._bank_bytes(running)
        pieces = []
        for numbers in groups.values():
            number = np.clip(round(self._num_bytes(numbers) / limit), 1, len(numbers))
            pieces += [piece.tolist() for piece in np.array_split(numbers, number)]
        pieces.sort(key=self._num_bytes, reverse=True)
        return [(own, self._make_bank([self.members[number] for number in own])) for own in pieces]

    def _bank_bytes(self, running: Sequence[Trial]) -> float:
        # small enough for the caches of the processor, with two banks per worker to balance the load
        if not self.on_cpu:
            return float("inf")
        share = self._num_bytes([trial.number for trial in running]) / (2 * self.workers)
        return min(CPU_BANK_BYTES, share) if self.workers > 1 else CPU_BANK_BYTES

    def _num_bytes(self, numbers: Sequence[int]) -> int:
        heads = (head for number in numbers for head in self.members[number].heads)
        return sum(parameter.nbytes for head in heads for parameter in head.parameters())

    def _make_bank(self, members: Sequence[Member]) -> Bank:
        return Bank(members, seed=self.schedule.seed)

    def _score(self, trials: Sequence[Trial], bank: Bank) -> None:
        """Record the metric on the val rows of each fold."""
        scores = np.stack([self._score_fold(bank, place) for place in range(len(self.folds))], axis=1)
        for trial, own, member in zip(trials, scores.tolist(), bank.members, strict=True):
            trial.scores.append(own)
            trial.train_losses.append(member.losses_seen)
            if not np.isfinite(own).all():
                trial.state = "diverged"

    @torch.no_grad()
    def _score_fold(self, bank: Bank, place: int) -> np.ndarray:
        """Return the metric of each trial (T,) on the val rows of one fold."""
        batches: list[Batch] = list(self.datamodule.loader_of(self.folds[place].val))
        features = [inputs.to(bank.heads.device) for inputs, _, _ in batches]
        targets = torch.cat([wanted for _, wanted, _ in batches]).cpu().numpy()
        values = []
        for member in bank.members:
            with ready_to_score(member, place) as head:
                logits = [head(inputs) for inputs in features]
            values.append(self._metric(torch.cat(logits).cpu(), targets))
        return np.array(values)

    def _metric(self, logits: Tensor, targets: np.ndarray) -> float:
        if not torch.isfinite(logits).all():
            return np.nan
        scored = ScoredImages(torch.sigmoid(logits).numpy(), targets, self.datamodule.table.classes)
        averages, _ = scored.summarise(names=[self.schedule.metric])
        return float(averages[self.schedule.metric][0])
