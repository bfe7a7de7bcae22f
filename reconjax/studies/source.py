"""What a study works on: a data set as it is to be read, its moments, its folds, its test split."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reconjax.data import Dataset, Split, load
from reconjax.data.changed import changed
from reconjax.data.targets import strata
from reconjax.data.units import as_floats
from reconjax.data.unlabeled import count as unlabeled_count
from reconjax.data.unlabeled import with_unlabeled
from reconjax.evidence.bootstrap import BALANCED, bootstrap
from reconjax.studies.limits import check_fits, check_whole, device_memory
from reconjax.studies.progress import counted, progress_bar, say
from reconjax.studies.reading import Reading
from reconjax.summary import hosts
from reconjax.summary.few_labels import without_labels
from reconjax.summary.folds import combined, each_fold, fold_memory, fold_moments, most_folds
from reconjax.summary.moments import Moments, balanced_class_weight, standardized
from reconjax.summary.streaming import moments_from_batches
from reconjax.summary.union import merge
from reconjax.theory.chance import Rows
from reconjax.theory.held_out import HeldOut, held_out
from reconjax.theory.spectrum import Spectrum, spectrum, spectrum_from_samples

# (D, D) float64 matrices that moments and their spectrum hold at their peak.
DENSE_MATRICES = 6
# Folds of the training split by default, and of the test split at most.
FOLDS = 19
TEST_FOLDS = 20
TEST_FOLDS_BYTES = 2**30
# Options for what lies in files, and those for any data.
ARRAYS = ("channels_first", "axes")
FILES = (*ARRAYS, "targets", "skip_corrupt", "image_key", "target_key", "target_patch")
CHANGES = ("resize", "crop", "gray", "test_share")

Batch = tuple[np.ndarray, np.ndarray]


class Source:
    """A data set, or moments alone, as a study reads them."""

    def __init__(self, data: str | Dataset | Moments, labels: bool = True, **reading: Any) -> None:
        """Opens data by name, or takes them as they are.

        Args:
          data: the name of a data set, see `reconjax.data.load`; a data set; or moments, of which
            nothing is read: they have no folds and no test split.
          labels: whether labels are needed. Where they are not, nobody looks at them.
          reading: see `Reading`.

        Raises:
          ValueError: no labels where they are needed, or an option that does not apply to moments.
        """
        unknown = sorted(set(reading) - set(Reading.__annotations__))
        if unknown:
            raise TypeError(f"{unknown[0]}: no such option; {', '.join(Reading.__annotations__)}")
        self.reading = Reading(**reading)  # type: ignore[typeddict-item]
        self.seed = reading.get("seed", 0)
        check_whole("seed", self.seed, 0)
        check_whole("max_samples", reading.get("max_samples"), 1)
        if (memory := reading.get("memory")) is not None and not memory > 0:
            raise ValueError(f"memory: {memory}; GiB > 0 are needed")
        self.class_weight = reading.get("class_weight")
        self.standardize = reading.get("standardize", False)
        self.started = time.monotonic()
        self.labels = labels
        if self.class_weight not in (None, "balanced"):
            raise ValueError(f"class_weight: {self.class_weight!r}; None or 'balanced' is allowed")
        self.given = data if isinstance(data, Moments) else None
        self.dataset: Dataset | None = None
        if self.given is not None:
            self._check_unused("moments", "max_samples", "class_weight", "standardize")
            self._check_unused("moments", *FILES, *CHANGES, "unlabeled")
            self.name, self.features = "moments", self.given.features
            self.num_targets = self.given.targets
        else:
            opened = self._opened(data)
            self.dataset = opened
            self.name, self.features = opened.name, opened.features
            self.num_targets = opened.num_targets
            if self.class_weight and not opened.num_classes:
                raise ValueError(
                    f"class_weight: {self.class_weight!r}; {self.name} has {opened.targets_text},"
                    " and only classes have weights"
                )
        if labels and not self.num_targets:
            raise ValueError(f"{self.name}: no labels: no y_train, class folders or --target-key")

    @property
    def facts(self) -> dict[str, Any]:
        """What every result says of the arrays: how they were understood."""
        if self.dataset is None:
            what = {"targets": f"{self.num_targets} targets", "columns": self.num_targets}
            return {"classes": 0, **what, "example_shape": []}
        return {
            "classes": self.dataset.num_classes,
            "targets": self.dataset.targets_text,
            "columns": self.num_targets,
            "example_shape": list(self.dataset.example_shape),
            "notes": "\n".join(self.dataset.notes),
            "unlabeled": unlabeled_count(self.unlabeled),
        }

    @property
    def tasks(self) -> tuple[int, ...] | None:
        """(C,) the task of each target, where there are several tasks; else None."""
        return None if self.dataset is None else self.dataset.task_of_target or None

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None for real targets."""
        return None if self.dataset is None else self.dataset.num_classes or None

    def _opened(self, data: object) -> Dataset:
        opened = self._named(data)
        other = self.reading.get("unlabeled")
        if other is not None:
            if not isinstance(other, Dataset):
                options = self._options(("data_dir", *ARRAYS, "skip_corrupt", "image_key"))
                other = load(other, **options)
            shapes = self._options(("resize", "crop", "gray"))
            opened = with_unlabeled(opened, changed(other, **shapes))
        if opened.unlabeled:
            for name in ("class_weight", "standardize"):
                if value := self.reading.get(name):
                    why = "it does not apply where examples have no label"
                    raise ValueError(f"{name}: {value!r}; {why}")
        return opened

    def _named(self, data: object) -> Dataset:
        if isinstance(data, Dataset):
            self._check_unused("a data set in memory", *FILES)
            return changed(data, seed=self.seed, **self._options(CHANGES))
        if not isinstance(data, str):
            kind = type(data).__name__
            raise ValueError(f"data: {kind}; a name, a `Dataset` or `Moments` is needed")
        options = self._options(("data_dir", *FILES, *CHANGES))
        opened = load(data, seed=self.seed, **options)
        if self.reading.get("progress", True):
            for note in opened.notes:
                say(f"{opened.name}: {note}")
        return opened

    def _options(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: self.reading[name] for name in names if name in self.reading}

    def _check_unused(self, what: str, *names: str) -> None:
        for name in names:
            if value := self.reading.get(name):
                raise ValueError(f"{name}: {value!r}; it does not apply to {what}")

    @functools.cached_property
    def train(self) -> Split:
        """The part of the training split that `max_samples` leaves."""
        if self.dataset is None:
            raise ValueError("data: moments; a data set with samples is needed")
        size = self.reading.get("max_samples")
        train = self.dataset.train
        return train if size is None else train.sample(size, self.seed)

    def sampled(self) -> Dataset:
        """The data set, with the part of its training split that `max_samples` leaves."""
        if self.dataset is None:
            raise ValueError("data: moments; a data set with samples is needed")
        return dataclasses.replace(self.dataset, train=self.train)

    @property
    def unlabeled(self) -> tuple[Split, ...]:
        """Examples without a label; one alone has no moments."""
        splits = () if self.dataset is None else self.dataset.unlabeled
        return tuple(split for split in splits if len(split) > 1)

    def leave_out_unlabeled(self) -> None:
        """For studies that have no use for examples without a label; it is said."""
        if self.dataset is not None and (count := unlabeled_count(self.unlabeled)):
            say(f"{self.name}: {count} examples without a label left out")
            self.dataset = dataclasses.replace(self.dataset, unlabeled=())

    @property
    def test(self) -> Split | None:
        """The test split, or None."""
        return None if self.dataset is None else self.dataset.test

    def progress(self, label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        """A bar; see `progress_bar`."""
        return progress_bar(label, total, self.reading.get("progress", True))

    def check_memory(self, needed: int, what: str, by_samples: bool = False) -> None:
        """Refuses, before any work, what does not fit into `memory` or else the device's memory.

        Raises:
          ValueError: one line with both sizes, and what would fit.
        """
        shape = () if self.dataset is None else self.dataset.example_shape
        size, samples = (self.memory(), self.features, shape), self.needs_moments is None
        check_fits(self.name, what, needed, *size, samples, by_samples)

    @property
    def needs_moments(self) -> str | None:
        """What only (D, D) moments can serve; None where the samples do as well."""
        if self.given is not None:
            return "moments"
        if self.class_weight:
            return "class weights"
        if self.standardize:
            return "standardized features"
        if self.unlabeled and self.labels:
            return "examples without a label"
        return "several processes" if jax.process_count() > 1 else None

    @property
    def encoded(self) -> tuple[Split, ...]:
        """What the encoder learns from: all examples where no labels are looked at."""
        return (self.train,) if self.labels else (self.train, *self.unlabeled)

    @property
    def by_samples(self) -> bool:
        """Whether there are fewer samples than features, so that the N x N problem is solved."""
        return self.needs_moments is None and sum(map(len, self.encoded)) < self.features

    def moments_fit(self) -> bool:
        """Whether there is memory for (D, D) moments."""
        return self._moments_size() <= self.memory()

    def moments(self) -> Moments:
        """Moments of the training split; of all examples, where no labels are looked at."""
        if self.given is not None:
            return self.given
        self.check_memory(self._moments_size(), "the moments")
        moments = self._summed(self.train, "samples", self.labels)
        if not self.labels:
            moments = self._with_unlabeled(without_labels(moments))
        return self._in_units(moments)

    def encoder(self, moments: Moments) -> Moments | None:
        """Moments of all examples, where some have no label, given those of the labeled ones."""
        return self._with_unlabeled(without_labels(moments)) if self.unlabeled else None

    def _with_unlabeled(self, moments: Moments) -> Moments:
        """Moments without labels, those of all examples without a label added to them."""
        for split in self.unlabeled:
            more = self._summed(split, "samples without a label", False)
            moments = merge(moments, without_labels(more))
        return moments

    def _summed(self, split: Split, name: str, labels: bool) -> Moments:
        mine = hosts.part(split)
        with self.progress(name, len(mine)) as count:
            local = jax.local_devices()
            own = moments_from_batches(
                counted(mine.batches(), count, labels),
                num_classes=self.num_classes if labels else 2,
                class_weight=self._weight(split) if labels else None,
                devices=local if len(local) > 1 else None,
            )
        return hosts.merged(own)

    def spectrum(self, variance: float | None = None) -> Spectrum:
        """The spectrum of the training split, by the smaller of N and D.

        The N-side keeps the directions that explain that share of the variance, or none.
        """
        if not self.by_samples:
            return spectrum(self.moments())
        images, labels = self.in_memory(self.train, "samples")
        kept: dict[str, Any] = {"directions": 0} if variance is None else {"variance": variance}
        return spectrum_from_samples(images, labels, num_classes=self.num_classes, **kept)

    def in_memory(self, split: Split, label: str) -> Batch:
        """All examples of a split, as they are stored, and their labels."""
        # In small batches: what is read is in memory once.
        first, of_first = split.examples(np.arange(1))
        images = np.empty((len(split), *first.shape[1:]), first.dtype)
        labels = np.empty((len(split), *of_first.shape[1:]), of_first.dtype)
        starts = range(0, len(split), 256)
        with self.progress(label, len(split)) as count:
            for begin, (batch, classes) in zip(starts, split.batches(256), strict=True):
                images[begin : begin + len(batch)] = batch
                labels[begin : begin + len(batch)] = classes
                count(len(batch))
        return images, labels

    def rows(self, moments: Moments | Spectrum) -> Rows | None:
        """Draws inputs again, for chance with class weights; None where there are none."""
        if self.dataset is None or moments.unweighted is None or jax.process_count() > 1:
            return None
        mean, scale = np.asarray(moments.unweighted.mean_x), np.asarray(moments.scale)

        def drawn(rng: np.random.Generator, count: int) -> np.ndarray:
            images, _ = self.train.examples(rng.permutation(len(self.train))[:count])
            flat = np.asarray(as_floats(jnp.asarray(images))).reshape(count, -1)
            return rng.permutation((flat - mean) / scale)

        return drawn

    def folded_moments(self, folds: int | None, cheap: int) -> tuple[Moments, Moments | None]:
        """Moments of the training split, and those of its folds (B, ...), or None without folds.

        Args:
          folds: B; 0 for none. None: 19 for up to `cheap` features and targets, where they fit.
          cheap: see folds.

        Raises:
          ValueError: a number of folds that the data do not allow.
        """
        count = self._fold_count(folds, cheap)
        if count == 0:
            return self.moments(), None
        weighted = self.class_weight is not None
        needed = fold_memory(self.features, count, targets=self.num_targets, weighted=weighted)
        needed += DENSE_MATRICES * 8 * self.features**2
        self.check_memory(needed, f"the moments of --bootstrap {count} folds")
        with self._fold_options(self.train, "samples") as options:
            parts = fold_moments(self.train, count, **options)
        return self._in_units(combined(parts)), parts

    def bootstrap(self, folds: Moments, curve: Callable[[Moments], Any]) -> Any:
        """`bootstrap` of a function of the moments in the units of this source."""
        return bootstrap(folds, lambda moments: curve(self._in_units(moments)))

    def held_out(self, training: Moments) -> HeldOut | None:
        """The test split for solutions on moments of the training split; None without one."""
        count = self.test_folds
        if not count or self.test is None:
            return None
        with self._fold_options(self.test, "test samples") as options:
            return held_out(each_fold(self.test, count, **options), training)

    @property
    def test_folds(self) -> int:
        """How many folds the test split has; 0 where it cannot be used."""
        if self.test is None or jax.process_count() > 1:
            return 0
        # Of many targets, only as many as keep their cross moments, of which there are 3, small.
        fits = max(TEST_FOLDS_BYTES // (3 * 8 * self.features * max(self.num_targets, 1)), 2)
        count = min(TEST_FOLDS, most_folds(strata(self.test.labels)), fits)
        return count if count > 1 else 0

    def _fold_count(self, folds: int | None, cheap: int) -> int:
        check_whole("bootstrap", folds)
        several = jax.process_count() > 1
        if self.given is not None:
            if folds:
                raise ValueError(f"bootstrap: {folds}; moments have no folds, 0 alone is allowed")
            return 0
        fits = [
            count
            for count in BALANCED
            if count <= most_folds(strata(self.train.labels))
            and (count - 1) / (2 * count) * len(self.train) > self.features
        ]
        if folds is None:
            wanted = max(self.features, self.num_targets) <= cheap and not several
            return max([0, *(count for count in fits if count <= FOLDS)]) if wanted else 0
        if folds and several:
            raise ValueError(f"bootstrap: {folds}; with several processes 0 alone is allowed")
        if folds and folds not in fits:
            raise ValueError(
                f"bootstrap: {folds}; {', '.join(map(str, [0, *fits]))} is allowed: half of"
                " the samples must be more than the features, and two classes in every fold"
            )
        return folds

    def _moments_size(self) -> int:
        return DENSE_MATRICES * 8 * self.features * (self.features + self.num_targets)

    def memory(self) -> float:
        """Bytes that may be used."""
        limit = self.reading.get("memory")
        return limit * 2**30 if limit else device_memory()

    def _in_units(self, moments: Moments) -> Moments:
        return standardized(moments) if self.standardize else moments

    def _weight(self, split: Split) -> np.ndarray | None:
        if not self.class_weight or not self.num_classes:
            return None
        return balanced_class_weight(split.labels, self.num_classes)

    @contextmanager
    def _fold_options(self, split: Split, label: str) -> Iterator[dict[str, Any]]:
        """The keywords of `each_fold`, with a bar of progress."""
        local = jax.local_devices()
        with self.progress(label, len(split)) as count:
            yield {
                "num_classes": self.num_classes,
                "class_weight": self._weight(split),
                "seed": self.seed,
                "devices": local if len(local) > 1 else None,
                "progress": count,
            }
