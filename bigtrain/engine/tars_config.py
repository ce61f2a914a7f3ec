"""Streams of tars that nobody has indexed: they train at once, with a weaker promise than shards have."""

from typing import Literal, Self

from pydantic import PositiveInt, field_validator, model_validator

from bigtrain.engine.stream_config import Reading, Share, StreamConfig
from data_pipelines.protocol import Crop
from data_pipelines.remote import is_remote
from data_pipelines.secrets import refuse_secrets
from data_pipelines.tar_set import TarPlan
from data_pipelines.tar_urls import check_url


class TarsConfig(StreamConfig):
    """A stream of WebDataset tars without an index, read by the package `webdataset`; needs `bigtrain[webdataset]`.

    Shards come in a random order in each epoch, and samples are shuffled in a buffer. A run that is resumed begins at
    the start of a shard, so that samples may be seen again or missed; `bigtrain data prepare` makes an exact set.

    Attributes:
        kind: `webdataset`.
        urls: locations of the tars: paths, `http(s)://` or `s3://`, with braces (`{000000..000999}.tar`); folders of
            tars; or `.txt` files with one of these per line.
        head: number of samples from the beginning of the first tars that are stored as a dataset of their own, for
            previews, scores and health monitors; the class frequencies are taken from them.
        shuffle: number of samples in the shuffle buffer of each worker.
        fit: how images are cropped to the size in the config, see `bigtrain data prepare --crop`.
        upscale: whether smaller images are enlarged; otherwise they are skipped.
        index: folder of an indexed dataset that a separate process makes of the tars during training, with the lowest
            priority; a later run can train from it with `kind: shards`. null makes none.
    """

    kind: Literal["webdataset"]
    urls: str | tuple[str, ...]
    head: PositiveInt = 1024
    shuffle: PositiveInt = 1000
    fit: Crop = "center"
    upscale: bool = False
    index: str | None = None

    @field_validator("urls")
    @classmethod
    def _can_be_read(cls, urls: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for url in (urls,) if isinstance(urls, str) else urls:
            check_url(refuse_secrets(url, "use ~/.netrc for http(s)://, $AWS_ACCESS_KEY_ID and its like for s3://"))
        if not urls:
            raise ValueError("is empty; give the URLs or paths of tars")
        return urls

    @model_validator(mode="after")
    def _can_be_indexed(self) -> Self:
        if self.index is not None:
            if len(self.paths) != 1 or not is_remote(self.paths[0]):
                raise ValueError(
                    "index: needs a single URL, with braces or of a .txt list; local tars are indexed before "
                    "training by bigtrain data prepare webdataset:FOLDER DEST"
                )
            if list(self.specs()) not in (["image"], ["image", "class"]):
                raise ValueError("index: supports images and their classes; other fields need bigtrain data prepare")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The URLs as they are written."""
        return (self.urls,) if isinstance(self.urls, str) else self.urls

    @property
    def place(self) -> str:
        """The URLs in one line."""
        return ", ".join(self.paths)

    @property
    def reading(self) -> Reading:
        """How it is read; `loader` is always threads."""
        return Reading(workers=self.workers)

    def plan(self, share: Share) -> TarPlan:
        """See StreamConfig."""
        return TarPlan(
            **self.common(share),
            urls=self.paths,
            specs=self.specs(),
            head=self.head,
            shuffle=self.shuffle,
            fit=self.fit,
            upscale=self.upscale,
            index=self.index,
        )
