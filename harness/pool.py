"""The activations a run has at hand: each computed at most once, from the nearest that is there."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from harness import kept
from harness.backbones.staged import StagedModel
from harness.data.pixels import read_images
from harness.data.prepare import PreparedData
from harness.feature_keys import PLAIN, Conditions, describe_prefix, feature_keys, views
from harness.features import BATCH, Features, FeatureSource, Recomputed, as_input, as_rows, run_prefix
from harness.placement import Placement, make_placement
from harness.prefix import Load, compute_prefix, row_shapes
from harness.progress import Progress
from harness.runtime import give_back_freed_memory
from harness.stores import Store, make_store

IMAGES_SHARE = 0.5  # of the room for activations may hold decoded images
_CPU = torch.device("cpu")

Keys = Mapping[int, Mapping[str, kept.FeatureKey]]  # by cut and view


@dataclass(frozen=True)
class Supply:
    """What suffixes take, by cut, and what it has cost: seconds of decoding and of the prefix's pass."""

    features: Mapping[int, FeatureSource]
    decode_s: float
    prefix_s: float


@dataclass(frozen=True)
class _Held:
    keys: Mapping[str, kept.FeatureKey]
    features: Features
    in_memory: bool


@dataclass
class FeaturePool:
    """Activations of the samples of one grid.

    ``budget`` bounds the bytes of memory they take (None: by what is free); with ``keep`` they are
    looked for, and left, in the user's cache folder. ``decode_s`` are the seconds that the images of
    the last network took.
    """

    data: PreparedData
    conditions: Conditions
    workers: int
    budget: int | None
    keep: bool
    progress: Progress
    decode_s: float = 0.0
    _held: dict[int, _Held] = field(default_factory=dict)
    _images: dict[str, tuple[FeatureSource, bool]] = field(default_factory=dict)

    def get(self, model: StagedModel, name: str, cuts: Sequence[int]) -> Supply:
        """Activations of backbone ``name`` at every one of ``cuts`` (0: the images)."""
        began, self.decode_s = time.perf_counter(), 0.0
        wanted = sorted({cut for cut in cuts if cut})
        useful = {cut for cut in self._held if cut < max(cuts)}
        keys = {
            cut: feature_keys(model, name, cut, self.data, self.conditions)
            for cut in sorted(useful | set(wanted))
        }
        self._keep_only(keys)
        if self.keep:
            self._find_kept(model, name, {cut: keys[cut] for cut in wanted})
        have: dict[int, FeatureSource] = {cut: held.features for cut, held in self._held.items()}
        missing = [cut for cut in wanted if cut not in have]
        if missing:
            have |= self._compute(model, name, missing, keys)
        if 0 in cuts:
            have[0] = self.images(model)
        features = {cut: have[cut] for cut in cuts}
        return Supply(features, self.decode_s, time.perf_counter() - began - self.decode_s)

    def images(self, model: StagedModel) -> FeatureSource:
        """The decoded images as this network takes them, decoded once for all that take them so."""
        geometry = image_geometry(model)
        if geometry not in self._images:
            self._images.clear()
            count, began = len(self.data.table), time.perf_counter()
            room = self.placement()
            room.memory_left = int(room.memory_left * IMAGES_SHARE)
            room.device_left = int(room.device_left * IMAGES_SHARE)
            with self.progress.task(f"decoding {count} images", count, "images") as task:
                images, where = read_images(
                    self.data.table, model.preprocess, self.workers, room, task.advance
                )
            self._images[geometry] = images, where in ("device", "memory")
            self.decode_s = time.perf_counter() - began
            self.progress.say(f"{count} images decoded: {self.decode_s:.1f} s")
        return self._images[geometry][0]

    def placement(self, more: int = 0) -> Placement:
        """Room for more activations beside what the pool, and ``more`` bytes elsewhere, hold."""
        if self.budget is None:
            return make_placement(self.conditions.device, None)
        held = sum(h.features.nbytes for h in self._held.values() if h.in_memory)
        held += sum(i.nbytes for i, inside in self._images.values() if inside and isinstance(i, Features))
        return make_placement(self.conditions.device, max(self.budget - held - more, 0))

    def _keep_only(self, keys: Keys) -> None:
        """What another network left makes room; what this one can go on from stays."""
        stays = {cut: held for cut, held in self._held.items() if keys.get(cut) == held.keys}
        if len(stays) < len(self._held):
            self._held = stays
            give_back_freed_memory()

    def _find_kept(self, model: StagedModel, name: str, keys: Keys) -> None:
        """Takes kept rows, after one batch of each, picked at random, has been computed again."""
        for cut, by_view in keys.items():
            if cut in self._held:
                continue
            found = {view: kept.find(key) for view, key in by_view.items()}
            rows = {view: r for view, r in found.items() if r is not None}
            for view, key in by_view.items():
                if view not in rows and kept.present(key):
                    self.progress.say(f"kept activations {key.digest} are damaged: computed again")
            wrong = [view for view, r in rows.items() if not self._verified(model, cut, view, r)]
            for view in wrong:
                kept.forget(by_view[view])
                self.progress.say(
                    f"kept activations {by_view[view].digest} aren't what {name} computes: "
                    "removed and computed again"
                )
            if len(rows) == len(by_view) and not wrong:
                self._held[cut] = self._closer(by_view, rows)
                self.progress.say(f"kept from before: {describe_prefix(model, name, (cut,))}")

    def _closer(self, keys: Mapping[str, kept.FeatureKey], rows: Mapping[str, torch.Tensor]) -> _Held:
        """Kept rows, copied to a GPU's own memory where they fit; a CPU reads the mapped file as well."""
        nbytes = sum(r.nbytes for r in rows.values())
        device = self.conditions.device
        if device.type == "cuda" and self.placement().choose(nbytes) == "device":
            return _Held(keys, Features(*(r.to(device) for r in rows.values())), True)
        return _Held(keys, Features(*rows.values()), False)

    def _verified(self, model: StagedModel, cut: int, view: str, rows: torch.Tensor) -> bool:
        start = BATCH * secrets.randbelow(-(-len(rows) // BATCH))
        index = torch.arange(start, min(start + BATCH, len(rows)))
        table = self.data.table.take(index.numpy())
        images, _ = read_images(table, model.preprocess, self.workers, make_placement(_CPU, None))
        mirror = None if view == PLAIN else torch.ones(len(index), dtype=torch.bool)
        x = images.batch(torch.arange(len(index)), self.conditions.device, mirror)
        out = run_prefix(model.section(0, cut), x, self.conditions.autocast)[: len(index)]
        # Without deterministic algorithms the same computation may end in other last bits.
        near = 0.0 if self.conditions.deterministic else 1e-3
        return torch.allclose(as_rows(out).cpu(), rows[index], rtol=near, atol=near, equal_nan=True)

    def _compute(
        self, model: StagedModel, name: str, missing: Sequence[int], keys: Keys
    ) -> dict[int, FeatureSource]:
        """One pass for all cuts that start from the same activations, or from the images."""
        have = {cut: held.features for cut, held in self._held.items()}
        starts = {cut: max((h for h in have if h < cut), default=0) for cut in missing}
        if 0 in starts.values():
            self.images(model)  # before the activations, so that the room for these is known
        stores: dict[int, Store] = {}
        try:
            self._allocate(model, missing, stores)
            for start in sorted({starts[cut] for cut in stores}):
                source = have[start] if start else self.images(model)
                self._pass(
                    model, name, start, {c: s for c, s in stores.items() if starts[c] == start}, source
                )
        except BaseException:
            for store in stores.values():
                store.drop()
            raise
        for cut, store in stores.items():
            store.seal(keys[cut], describe_prefix(model, name, (cut,)), self.progress.say)
            rows = store.rows
            in_memory = store.where in ("device", "memory")
            self._held[cut] = (
                self._closer(keys[cut], rows)
                if store.drafts
                else _Held(keys[cut], Features(*rows.values()), in_memory)
            )
        found: dict[int, FeatureSource] = {cut: self._held[cut].features for cut in stores}
        return found | {cut: self._recomputed(model, cut) for cut in missing if cut not in stores}

    def _recomputed(self, model: StagedModel, cut: int) -> Recomputed:
        start = max((h for h in self._held if h < cut), default=0)
        self.progress.say(f"no room for the activations at cut {cut}: computed again for every batch")
        base = self._held[start].features if start else self.images(model)
        return Recomputed(base, model.section(start, cut), self.conditions.autocast)

    def _allocate(self, model: StagedModel, cuts: Sequence[int], stores: dict[int, Store]) -> None:
        """Room for every cut that has some; the shallowest first, since it takes the longest to remake."""
        shapes = row_shapes(model, tuple(cuts), self.conditions.autocast)
        room, count = self.placement(), len(self.data.table)
        for cut in sorted(cuts):
            shape, dtype = shapes[cut]
            each = views(self.conditions)
            store = make_store(room, (count, *shape), dtype, each, self.keep, self.progress.say)
            if store is not None:
                stores[cut] = store

    def _pass(
        self, model: StagedModel, name: str, start: int, stores: Mapping[int, Store], source: FeatureSource
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
                    loader(source, view),
                    device=self.conditions.device,
                    autocast=self.conditions.autocast,
                    progress=task.advance,
                )
        places = ", ".join(store.words for store in stores.values())
        seconds = time.perf_counter() - began
        self.progress.say(f"frozen prefix, {title}, of {count} images: {seconds:.1f} s, {places}")


def image_geometry(model: StagedModel) -> str:
    """Networks with the same take the same decoded images."""
    p = model.preprocess
    return f"{p.size} {p.resize} {p.interpolation}"


def loader(source: FeatureSource, view: str) -> Load:
    """Rows of a view as a pass over all of them takes them."""
    device = source.rows.device if isinstance(source, Features) else _CPU
    if isinstance(source, Features) and (view == PLAIN or source.flipped is not None):
        # A view: a copy made beside the computation would take one of its cores from it.
        rows = source.rows if view == PLAIN or source.flipped is None else source.flipped
        return lambda start, stop: as_input(rows[start:stop])

    def load(start: int, stop: int) -> torch.Tensor:
        mirror = None if view == PLAIN else torch.ones(stop - start, dtype=torch.bool)
        return source.batch(torch.arange(start, stop), device, mirror)

    return load
