"""From the files of a run folder to a record. Nothing else of the report touches a run folder.

A folder that doesn't follow ``docs/run-folder.md`` raises
:class:`~harness.errors.RecordError` with the file and the key at fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.contracts import DataCard
from harness.errors import RecordError
from harness.seal import intact
from reports.fields import Fields
from reports.files import parse_json, read_text
from reports.record_types import (
    BackboneFacts,
    ClassScores,
    DataFacts,
    Epoch,
    Memory,
    RateSpan,
    Record,
    Result,
    Scores,
    Spec,
    Stage,
    StrategyFacts,
    Timing,
)

FORMAT = 1  # the newest format of result.json that is understood


def load_records(folders: Iterable[Path]) -> tuple[Record, ...]:
    """The records of finished run folders (done or failed), each folder once, in the order given.

    Raises :class:`~harness.errors.RecordError` naming the file that can't be read.
    """
    once = {Path(folder).resolve(): Path(folder) for folder in folders}
    return tuple(_record(folder) for folder in once.values())


def _record(folder: Path) -> Record:
    file = folder / "result.json"
    text = read_text(file)
    if intact(text.encode()) is False:
        raise RecordError(f"{file} was changed after it was written: its seal doesn't fit any more")
    root = Fields.of(file, "", parse_json(file, text))
    found = root.integer("format")
    if found > FORMAT or found < 1:
        raise RecordError(f"{file}: format {found} is not known (this version reads up to {FORMAT})")
    status = root.text("status")
    if status not in ("done", "failed"):
        raise RecordError(f"{file}: 'status' should be 'done' or 'failed', it is '{status}'")
    done = status == "done"
    environment, digests = root.optional_sub("environment"), root.optional_sub("digests")
    strategy = root.sub("strategy") if done else root.optional_sub("strategy")
    return Record(
        folder=folder,
        run=root.text("run"),
        suite=root.text_or_none("suite"),
        spec=_spec(root.sub("spec")),
        history=_history(folder / "history.jsonl", needed=done),
        environment=environment.options() if environment else {},
        command=root.text("command", ""),
        error=None if done else root.text_or_none("error") or "no reason was recorded",
        digests=digests.options() if digests else {},
        strategy=_strategy(strategy) if strategy else None,
        result=_result(root) if done else None,
    )


def _spec(f: Fields) -> Spec:
    data = f.sub("data")
    return Spec(
        data=data.text("name"),
        target=data.text_or_none("target"),
        split=data.text("split"),
        group=data.text_or_none("group"),
        split_seed=data.integer("split_seed", 0),
        limit=data.integer_or_none("limit"),
        backbone=f.text("backbone"),
        weights=f.text("weights"),
        head=f.text("head"),
        strategy=f.text("strategy"),
        strategy_name=f.text("strategy_name", f.text("strategy")),
        lr=f.number("lr"),
        seed=f.integer("seed"),
        train=f.sub("train").options(),
    )


def _history(file: Path, *, needed: bool) -> tuple[Epoch, ...]:
    if not needed and not file.exists():
        return ()
    rows = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        f = Fields.of(file, f"line {number}", parse_json(file, line, number))
        rows.append(
            Epoch(
                epoch=f.integer("epoch"),
                train_loss=f.loss("train_loss"),
                train_accuracy=f.number_or_none("train_accuracy"),
                val_loss=f.loss("val_loss"),
                val_accuracy=f.number_or_none("val_accuracy"),
            )
        )
    return tuple(rows)


def _result(root: Fields) -> Result:
    data, val = root.sub("data"), root.optional_sub("val")
    names = data.texts("class_names")
    timing, memory = root.sub("timing"), root.optional_sub("memory")
    changes = root.subs("micro_batches") if "micro_batches" in root.values else ()  # not in earlier records
    return Result(
        digests=root.sub("digests").options(),
        data=_data(data, names),
        backbone=_backbone(root.sub("backbone")),
        strategy=_strategy(root.sub("strategy")),
        selected_epoch=root.integer("selected_epoch"),
        val=_scores(val, names) if val and val.integer("n") else None,
        test=_scores(root.sub("test"), names),
        timing=Timing(
            decode_s=timing.number("decode_s", 0.0),
            prefix_s=timing.number("prefix_s", 0.0),
            prefix_shared_by=timing.integer("prefix_shared_by", 1),
            train_s=timing.number("train_s"),
            total_s=timing.number("total_s"),
            images_per_s=timing.number_or_none("images_per_s"),
        ),
        memory=Memory(memory.text("of"), memory.integer("peak_bytes")) if memory else None,
        micro_batches=max((change.integer("pieces") for change in changes), default=1),
    )


def _strategy(f: Fields) -> StrategyFacts:
    return StrategyFacts(
        name=f.text("name"),
        options=f.sub("options").options(),
        source=f.text("source", ""),
        summary=f.text("summary", ""),
        trainable=f.integer("trainable"),
        prefix=f.texts("prefix"),
    )


def _data(f: Fields, names: tuple[str, ...]) -> DataFacts:
    card, counts, missing = f.sub("card"), f.sub("counts"), f.optional_sub("missing")
    return DataFacts(
        card=DataCard(
            title=card.text("title"),
            description=card.text("description", ""),
            labels=card.text("labels", ""),
            license=card.text("license", ""),
            not_for=card.text("not_for", ""),
            redistributable=card.flag("redistributable", False),
            embedded=card.flag("embedded", False),
            url=card.text("url", ""),
        ),
        path=f.raw("path") if f.values.get("path") is not None else None,
        class_names=names,
        counts={part: counts.integers(part) for part in ("train", "val", "test") if part in counts.values},
        missing=missing.integer("count") if missing else 0,
    )


def _backbone(f: Fields) -> BackboneFacts:
    p = f.sub("preprocess")
    return BackboneFacts(
        name=f.text("name"),
        parameters=f.integer("parameters"),
        size=p.integer("size"),
        resize=p.integer("resize"),
        mean=p.numbers("mean"),
        std=p.numbers("std"),
        interpolation=p.text("interpolation"),
        stages=tuple(map(_stage, f.subs("stages"))),
        random_stages=f.texts("random_stages"),
    )


def _stage(f: Fields) -> Stage:
    norm, still = f.optional_sub("norm_statistics"), f.optional_sub("still")
    return Stage(
        name=f.text("name"),
        role=f.text("role"),
        parameters=f.integer("parameters"),
        trained=f.integer("trained", 0),
        lr_scale=f.number_or_none("lr_scale"),
        random=f.flag("random", False),
        moved=f.number_or_none("moved"),
        in_optimizer=f.integer_or_none("in_optimizer"),
        lr=tuple(map(_rate_span, f.subs("lr"))) if "lr" in f.values else (),
        norm_changed=norm.text("before") != norm.text("after") if norm else None,
        still=still.options() if still else {},
    )


def _rate_span(f: Fields) -> RateSpan:
    epochs = f.integers("epochs")
    if len(epochs) != 2:
        raise RecordError(f"{f.file}: '{f.where}.epochs' should be the first and the last epoch")
    return RateSpan(epochs[0], epochs[1], f.number("lr"))


def _scores(f: Fields, names: tuple[str, ...]) -> Scores:
    scores = Scores(
        n=f.integer("n"),
        loss=f.loss("loss"),
        accuracy=f.number("accuracy"),
        balanced_accuracy=f.number("balanced_accuracy"),
        macro_f1=f.number("macro_f1"),
        per_class=tuple(
            ClassScores(
                name=c.text("name"),
                precision=c.number("precision"),
                recall=c.number("recall"),
                f1=c.number("f1"),
                support=c.integer("support"),
                right=c.integer("right"),
                wrong=c.integer("wrong"),
            )
            for c in f.subs("per_class")
        ),
        confusion=f.matrix("confusion", len(names)),
    )
    total = sum(map(sum, scores.confusion))
    if total != scores.n or scores.n < 1 or abs(scores.right / total - scores.accuracy) > 1e-6:
        raise RecordError(f"{f.file}: the accuracy of '{f.where}' is not that of its confusion matrix")
    return scores
