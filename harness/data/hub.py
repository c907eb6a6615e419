"""Datasets of the Hugging Face Hub: downloaded when asked for by name, then read like local files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.contracts import UNSTATED, DataCard, SampleTable
from harness.data.hf import read_rows
from harness.data.listed import Missing, require_path
from harness.data.rows import require_pyarrow
from harness.errors import DataError, UsageError

_FILES = "*.parquet"


@dataclass(frozen=True)
class Hub:
    """``OWNER/NAME``, ``OWNER/NAME/FOLDER`` or either with ``@REVISION``: the Parquet files of a dataset.

    They are downloaded once, into the cache of ``huggingface_hub``; without a network what lies there is
    taken. The revision is resolved to a commit, which the record names.
    """

    name: ClassVar[str] = "hub"
    summary: ClassVar[str] = "a dataset of the Hugging Face Hub, downloaded: hub=OWNER/NAME[@REVISION]"
    default_target: ClassVar[str | None] = None
    default_split: ClassVar[str] = "auto"
    needs_path: ClassVar[bool] = True

    def read(self, path: Path | None, *, target: str | None, missing: Missing) -> SampleTable:
        asked = require_path(path, self.name, "OWNER/NAME of a dataset of the Hub").as_posix()
        require_pyarrow()
        name, _, revision = asked.partition("@")
        owner, slash, rest = name.partition("/")
        short, _, folder = rest.partition("/")
        if not (owner and slash and short):
            raise UsageError(f"bad --data hub={asked}: hub=OWNER/NAME[/FOLDER][@REVISION]")
        repo = f"{owner}/{short}"
        snapshot = _download(repo, folder, revision or None)
        commit = snapshot.name
        root = snapshot / folder
        parts = {p.relative_to(root).parts[0] for p in root.rglob(_FILES) if p.parent != root}
        if not parts and not list(root.glob(_FILES)):
            raise DataError(
                f"hub={asked}: no Parquet files at commit {commit[:12]}; the Hub converts many datasets: "
                f"try hub={repo}@refs/convert/parquet"
            )
        return read_rows(root, _card(repo, commit, snapshot), target, missing)


def _download(repo: str, folder: str, revision: str | None) -> Path:
    """The snapshot of a commit, its folder named by the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = [f"{folder}/**/{_FILES}", f"{folder}/{_FILES}"] if folder else [_FILES]
    shown = f"hub={repo}" + (f"@{revision}" if revision else "")
    try:
        return Path(
            snapshot_download(
                repo, repo_type="dataset", revision=revision, allow_patterns=[*wanted, "README.md"]
            )
        )
    except LocalEntryNotFoundError:
        raise DataError(
            f"{shown}: can't be downloaded (no network, or HF_HUB_OFFLINE is set) and isn't in the cache"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(f"{shown}: can't be downloaded: {reason.strip()}") from error


def _card(repo: str, commit: str, snapshot: Path) -> DataCard:
    return DataCard(
        title=repo,
        description=f"The dataset {repo} of the Hugging Face Hub, commit {commit}.",
        labels="A column of the dataset.",
        license=_license(snapshot / "README.md"),
        url=f"https://huggingface.co/datasets/{repo}/tree/{commit}",
    )


def _license(readme: Path) -> str:
    """As the dataset's own card states it."""
    from huggingface_hub import DatasetCard

    try:
        stated = DatasetCard.load(readme, ignore_metadata_errors=True).data.to_dict().get("license")
    except (OSError, ValueError):
        return UNSTATED
    words = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []
    return ", ".join(map(str, words)) or UNSTATED
