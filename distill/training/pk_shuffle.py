"""Batches of P identities with K images each: Hermans et al., 2017, section 2 (batch hard).

As there, and in insightface's triplet sampler, every identity appears equally often, however many
images it has. Those sample the images independently each time; here every image gets its turn.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class PKShuffle:
    """``batch_size`` images: ``images_each`` (K) consecutive images of each of P identities.

    ``labels`` int64 [N] are the identities of the images. The batches of a training form one
    sequence, which is divided into rounds and, independently, into epochs. A round shows each
    identity once in whole batches. The few identities that do not fill a batch are left out;
    different ones in each round, until all have been left out equally often.

    An identity shows K different images each time, and all of its images before any repeats. An
    identity with fewer than K images repeats them as evenly as possible.

    Identities with fewer than ``least_images`` are left out: a single image has no positive pair,
    and its repetitions would fill the batches of a long-tailed data set.

    An epoch has as many steps as a pass over all images of the participating identities, so
    ``epochs`` cost the same as with other samplers. Identities with many images may need several
    epochs to show them all.
    """

    labels: np.ndarray
    batch_size: int
    seed: int
    images_each: int
    least_images: int = 1

    @property
    def identities(self) -> int:
        """The number of participating identities."""
        return sum(len(group.identities) for group in self._groups)

    @property
    def images(self) -> int:
        """The number of images of the participating identities."""
        return sum(group.images.size for group in self._groups)

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.batch_size

    @property
    def read_ahead(self) -> int:
        return 0

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        steps = self.identities // self._identities_each
        first = epoch * self.steps_per_epoch
        last = first + self.steps_per_epoch
        turns = _Turns(self._groups, self.images_each, self.seed)
        rounds = [self._round(number, turns) for number in range(first // steps, -(-last // steps))]
        begin = first % steps * self.batch_size
        order = np.concatenate(rounds)[begin : begin + self.steps_per_epoch * self.batch_size]
        random = np.random.default_rng([self.seed, epoch])
        return order, random.random(len(order)) < 0.5

    @property
    def _identities_each(self) -> int:
        return self.batch_size // self.images_each

    @cached_property
    def _groups(self) -> list["_SizeGroup"]:
        """The identities, numbered from 0 by ascending label, grouped by image count."""
        _, counts = np.unique(self.labels, return_counts=True)
        begins, by_label = np.cumsum(counts) - counts, np.argsort(self.labels, kind="stable")
        large = counts >= self.least_images
        counts, begins = counts[large], begins[large]
        groups = []
        for count in np.unique(counts):
            identities = np.flatnonzero(counts == count)
            places = begins[identities, None] + np.arange(count)
            groups.append(_SizeGroup(identities, by_label[places]))
        return groups

    @cached_property
    def _queue(self) -> np.ndarray:
        """int64 [identities]: the position of each identity in the queue for being left out."""
        return np.random.default_rng([self.seed, 0, 3]).permutation(self.identities)

    def _round(self, number: int, turns: "_Turns") -> np.ndarray:
        """The images of all batches of a round."""
        left_out = self.identities % self._identities_each
        # The queue is circular; each round leaves out the next identities in it.
        times_round, place = divmod(number * left_out, self.identities)
        absences = times_round + (self._queue < place)
        absent = (self._queue - place) % self.identities < left_out
        images = turns.images(number - absences)
        random = np.random.default_rng([self.seed, number, 1])
        return images[random.permutation(np.flatnonzero(~absent))].ravel()


@dataclass(frozen=True, eq=False)
class _SizeGroup:
    """``identities`` int64 [M] with C images each: ``images`` int64 [M, C]."""

    identities: np.ndarray
    images: np.ndarray


class _Turns:
    """The images that an identity shows at its n-th appearance, for any n.

    A cycle is ``C / gcd(C, K)`` appearances of K images, in which each of C images is shown equally
    often. It derives from (seed, C, its number); the identities of a group go through it together.
    """

    def __init__(self, groups: list[_SizeGroup], images_each: int, seed: int) -> None:
        self._groups, self._images_each, self._seed = groups, images_each, seed
        self._cycles: dict[int, dict[int, np.ndarray]] = {}

    def images(self, appearances: np.ndarray) -> np.ndarray:
        """int64 [identities, K], given how often each identity [identities] has appeared so far."""
        identities = sum(len(group.identities) for group in self._groups)
        shown = np.empty((identities, self._images_each), np.int64)
        for group in self._groups:
            whole, drawn = divmod(self._images_each, group.images.shape[1])
            parts = [group.images] * whole
            if drawn:
                parts.append(self._drawn(group, drawn, appearances[group.identities]))
            shown[group.identities] = np.concatenate(parts, axis=1)
        return shown

    def _drawn(self, group: _SizeGroup, drawn: int, appearances: np.ndarray) -> np.ndarray:
        count = group.images.shape[1]
        numbers, places = np.divmod(appearances, count // math.gcd(count, drawn))
        known, needed = self._cycles.get(count, {}), {}
        images = np.empty((len(numbers), drawn), np.int64)
        for number in np.unique(numbers).tolist():
            cycle = known[number] if number in known else self._cycle(group, drawn, number)
            here = np.flatnonzero(numbers == number)
            columns = places[here, None] * drawn + np.arange(drawn)
            images[here] = cycle[here[:, None], columns]
            needed[number] = cycle
        self._cycles[count] = needed  # older cycles are finished
        return images

    def _cycle(self, group: _SizeGroup, drawn: int, number: int) -> np.ndarray:
        """int64 [M, lcm(C, drawn)]: repeated shuffles of all images, concatenated.

        An appearance that spans two shuffles shows no image twice: its images from the first
        shuffle are not at the start of the second.
        """
        count = group.images.shape[1]
        random = np.random.default_rng([self._seed, number, count, 2])
        shuffles = [random.permuted(group.images, axis=1)]
        while (shown := len(shuffles) * count) % drawn:
            begun = shown % drawn
            earlier, just_shown = np.split(shuffles[-1], [count - begun], axis=1)
            next_ones, later = np.split(random.permuted(earlier, axis=1), [drawn - begun], axis=1)
            rest = random.permuted(np.concatenate([later, just_shown], axis=1), axis=1)
            shuffles.append(np.concatenate([next_ones, rest], axis=1))
        return np.concatenate(shuffles, axis=1)
