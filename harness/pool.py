"""The activations a run has at hand: each computed at most once, from the nearest that is there."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from harness import kept
from harness.backbones.staged import StagedModel
from harness.data.prepare import PreparedData, read_images
from harness.feature_keys import PLAIN, Conditions, describe_prefix, feature_key, views
from harness.features import BATCH, Features, FeatureSource, Recomputed, as_rows, run_prefix
from harness.placement import Placement, make_placement, show_bytes
from harness.prefix import Load, compute_prefix, row_shapes
from harness.progress import Progress

_IMAGES_SHARE = 0.5  # of the room for activations may hold decoded images


@dataclass(frozen=True)
class Supply:
    """What suffixes take, by cut, and what it has cost: seconds of decoding and of the prefix's pass."""

    features: Mapping[int, FeatureSource]
    decode_s: float
    prefix_s: float


@dataclass
class FeaturePool:
    """Activations of the samples of one grid.

    ``budget`` bounds the bytes of memory they take (None: by what is free); with ``keep`` they are
    looked for, and left, in the user's cache folder.
    """

    data: PreparedData
    conditions: Conditions
    workers: int
    budget: int | None
    keep: bool
    progress: Progress
    _held: dict[tuple[int, str], _Held] = field(default_factory=dict)
    _images: dict[str, FeatureSource] = field(default_factory=dict)
    _decode_s: float = 0.0

    def get(self, model: StagedModel, name: str, cuts: Sequence[int]) -> Supply:
        """Activations of backbone ``name`` at every one of ``cuts`` (0: the images)."""
        began, self._decode_s = time.perf_counter(), 0.0
        wanted = sorted({cut for cut in cuts if cut})
        useful = {cut for cut, _ in self._held if cut < max(cuts)}
        keys = {
            (cut, view): feature_key(model, name, cut, view, self.data, self.conditions)
            for cut in sorted(useful | set(wanted))
            for view in views(self.conditions)
        }
        # What another network left makes room; what this one can go on from stays.
        self._held = {at: held for at, held in self._held.items() if at in keys and keys[at] == held.key}
        if self.keep:
            self._find_kept(model, name, {at: key for at, key in keys.items() if at[0] in wanted})
        have: dict[int, FeatureSource] = {
            cut: self._features(cut) for cut, _ in self._held if self._whole(cut)
        }
        missing = [cut for cut in wanted if cut not in have]
        if missing:
            have |= self._compute(model, name, missing, have, keys)
        if 0 in cuts:
            have[0] = self.images(model)
        features = {cut: have[cut] for cut in cuts}
        return Supply(features, self._decode_s, time.perf_counter() - began - self._decode_s)

    def _whole(self, cut: int) -> bool:
        return all((cut, view) in self._held for view in views(self.conditions))

    def _features(self, cut: int) -> Features:
        return Features(*(self._held[cut, view].rows for view in views(self.conditions)))

    def images(self, model: StagedModel) -> FeatureSource:
        """The decoded images as this network takes them, decoded once for all that take them so."""
        p = model.preprocess
        geometry = f"{p.size} {p.resize} {p.interpolation}"
        if geometry not in self._images:
            self._images.clear()
            count = len(self.data.table)
            began = time.perf_counter()
            room = self.placement()
            room.memory_left = int(room.memory_left * _IMAGES_SHARE)
            room.device_left = int(room.device_left * _IMAGES_SHARE)
            with self.progress.task(f"decoding {count} images", count, "images") as task:
                self._images[geometry] = read_images(self.data.table, p, self.workers, room, task.advance)
            self._decode_s += time.perf_counter() - began
            self.progress.say(f"{count} images decoded: {self._decode_s:.1f} s")
        return self._images[geometry]

    def placement(self) -> Placement:
        """Room for more activations."""
        held = sum(held.rows.nbytes for held in self._held.values())
        held += sum(images.nbytes for images in self._images.values() if isinstance(images, Features))
        device = self.conditions.device
        return make_placement(device, None if self.budget is None else max(self.budget - held, 0))

    def _find_kept(
        self, model: StagedModel, name: str, keys: Mapping[tuple[int, str], kept.FeatureKey]
    ) -> None:
        """Takes kept rows, after one batch of each, picked at random, has been computed again."""
        for (cut, view), key in sorted(keys.items(), key=lambda item: item[0]):
            rows = None if (cut, view) in self._held else kept.find(key)
            if rows is None:
                continue
            if self._verified(model, cut, view, rows):
                self._held[cut, view] = _Held(key, rows)
                self.progress.say(f"kept from before: {describe_prefix(model, name, (cut,))}, {view}")
            else:
                kept.forget(key)
                self.progress.say(
                    f"kept activations {key.digest} aren't what {name} computes: removed and computed again"
                )

    def _verified(self, model: StagedModel, cut: int, view: str, rows: torch.Tensor) -> bool:
        start = BATCH * secrets.randbelow(-(-len(rows) // BATCH))
        index = torch.arange(start, min(start + BATCH, len(rows)))
        room = make_placement(torch.device("cpu"), None)
        images = read_images(self.data.table.take(index.numpy()), model.preprocess, self.workers, room)
        device = self.conditions.device
        mirror = None if view == PLAIN else torch.ones(len(index), dtype=torch.bool)
        x = images.batch(torch.arange(len(index)), device, mirror)
        out = run_prefix(model.section(0, cut), x, self.conditions.autocast)[: len(index)]
        return torch.equal(as_rows(out).cpu(), rows[index])

    def _compute(
        self,
        model: StagedModel,
        name: str,
        missing: Sequence[int],
        have: Mapping[int, FeatureSource],
        keys: Mapping[tuple[int, str], kept.FeatureKey],
    ) -> dict[int, FeatureSource]:
        """One pass for all cuts that start from the same activations, or from the images."""
        shapes = row_shapes(model, tuple(missing), self.conditions.autocast)
        stores = self._allocate(missing, shapes)
        starts: dict[int, list[int]] = {}
        for cut in stores:
            starts.setdefault(max((h for h in have if h < cut), default=0), []).append(cut)
        try:
            for start, cuts in starts.items():
                source = have[start] if start else self.images(model)
                self._pass(model, name, start, {cut: stores[cut] for cut in cuts}, source)
        except BaseException:
            for draft in (d for store in stores.values() for d in store.drafts.values()):
                draft.drop()
            raise
        found: dict[int, FeatureSource] = {}
        for cut, store in stores.items():
            for view, rows in store.rows.items():
                self._held[cut, view] = _Held(keys[cut, view], rows)
                if view in store.drafts:
                    store.drafts[view].seal(
                        keys[cut, view], f"{describe_prefix(model, name, (cut,))}, {view}"
                    )
            found[cut] = self._features(cut)
        for cut in missing:
            if cut not in found:
                found[cut] = self._recomputed(model, cut, {**have, **found})
        return found

    def _recomputed(self, model: StagedModel, cut: int, have: Mapping[int, FeatureSource]) -> Recomputed:
        start = max((h for h in have if h < cut and isinstance(have[h], Features)), default=0)
        self.progress.say(f"no room for the activations at cut {cut}: computed again for every batch")
        base = have[start] if start else self.images(model)
        return Recomputed(base, model.section(start, cut), self.conditions.autocast)

    def _allocate(
        self, cuts: Sequence[int], shapes: Mapping[int, tuple[tuple[int, ...], torch.dtype]]
    ) -> dict[int, _Store]:
        """Room for every cut that has some; the shallowest first, since it takes the longest to remake."""
        room, count = self.placement(), len(self.data.table)
        found = {}
        for cut in sorted(cuts):
            shape, dtype = (count, *shapes[cut][0]), shapes[cut][1]
            store = _Store()
            for view in views(self.conditions):
                rows = self._draft(store, view, shape, dtype) if self.keep else None
                if rows is None:
                    rows, store.where = room.allocate(shape, dtype)
                if rows is None:
                    break
                store.rows[view] = rows
            else:
                found[cut] = store
        return found

    def _draft(
        self, store: _Store, view: str, shape: tuple[int, ...], dtype: torch.dtype
    ) -> torch.Tensor | None:
        try:
            store.drafts[view] = kept.draft(shape, dtype)
        except OSError as error:
            self.progress.say(f"can't keep activations: {error.strerror}")
            return None
        store.where = "file"
        return store.drafts[view].rows

    def _pass(
        self, model: StagedModel, name: str, start: int, stores: Mapping[int, _Store], source: FeatureSource
    ) -> None:
        began = time.perf_counter()
        count, each = len(self.data.table), views(self.conditions)
        title = describe_prefix(model, name, tuple(stores))
        with self.progress.task(f"frozen prefix, {title}", count * len(each), "images") as task:
            for view in each:
                compute_prefix(
                    model,
                    start,
                    {cut: store.rows[view] for cut, store in stores.items()},
                    _loader(source, view),
                    device=self.conditions.device,
                    autocast=self.conditions.autocast,
                    progress=task.advance,
                )
        places = ", ".join(
            f"{show_bytes(sum(r.nbytes for r in s.rows.values()))} in {_WORDS[s.where]}"
            for s in stores.values()
        )
        seconds = time.perf_counter() - began
        self.progress.say(f"frozen prefix, {title}, of {count} images: {seconds:.1f} s, {places}")


@dataclass(frozen=True)
class _Held:
    key: kept.FeatureKey
    rows: torch.Tensor


@dataclass
class _Store:
    """Rows of one cut, by view, and where they lie."""

    rows: dict[str, torch.Tensor] = field(default_factory=dict)
    drafts: dict[str, kept.Draft] = field(default_factory=dict)
    where: str = ""


_WORDS = {"device": "the device's memory", "memory": "memory", "file": "a mapped file"}


def _loader(source: FeatureSource, view: str) -> Load:
    cpu = torch.device("cpu")

    def load(start: int, stop: int) -> torch.Tensor:
        mirror = None if view == PLAIN else torch.ones(stop - start, dtype=torch.bool)
        return source.batch(torch.arange(start, stop), cpu, mirror)

    return load
