"""What the resources work with, and their base class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import falcon

from lenslet.config import Settings
from lenslet.errors import LensletError, NotFound, StorageUnavailable, one_line
from lenslet.index.messages import Sender
from lenslet.index.status import Status
from lenslet.library import Library
from lenslet.paths import Path
from lenslet.search.format import Months
from lenslet.search.query import Hits, Page, Search
from lenslet.storage.tree import Tree
from lenslet.web.images import Image, Images
from lenslet.web.jobs import FolderJobs
from lenslet.web.requests import Requests
from lenslet.web.waiters import Waiters


class Searchable(Protocol):
    """Photos that can be searched, as `Search` does with the whole library."""

    def find(self, query: str, below: Path | None, page: Page) -> Hits: ...

    def timeline(self, query: str, below: Path) -> Months: ...


@dataclass(frozen=True, slots=True)
class Service:
    """What the resources work with. `jobs` sends requests to the index process."""

    library: Library
    search: Search
    images: Images
    jobs: Sender
    folder_jobs: FolderJobs
    status: Status
    requests: Requests
    waiters: Waiters
    parts: Sequence["Part"]

    @property
    def settings(self) -> Settings:
        return self.library.settings

    @property
    def tree(self) -> Tree:
        return self.library.tree

    def image(self, req: falcon.Request, path: Path, *, fresh: bool = False) -> Image:
        """Returns the image that a request is about; see `Images.find`.

        A part of the outer ring may let a request see one version alone: that with `context.rev`.
        """
        image = self.images.find(path, fresh=fresh)
        self.check_rev(req, path, image.stat.rev)
        return image

    def check_rev(self, req: falcon.Request, path: Path, rev: str) -> None:
        """Raises `NotFound` if a request may not see the version of an image with this rev."""
        if req.context.rev not in ("", rev):
            raise NotFound(f"There is no image {path}.")

    def search_of(self, req: falcon.Request) -> Searchable:
        """Returns what a request may search: everything, or `context.search`."""
        found: Searchable = req.context.search or self.search
        return found

    def check_root(self) -> None:
        """Raises `StorageUnavailable` if the root cannot be used right now."""
        try:
            self.tree.check()
        except LensletError as error:
            raise StorageUnavailable(one_line(error)) from error

    def explained(self, error: LensletError) -> LensletError:
        """Returns the error to answer: while the root is away, a missing file may still exist."""
        if isinstance(error, NotFound):
            try:
                self.check_root()
            except StorageUnavailable as away:
                return away
        return error


class Resource:
    """An endpoint. Every one that answers GET answers HEAD too."""

    public = False  # True if everyone may use it, without a token
    only_reads = False  # True if its POST changes nothing

    def __init__(self, service: Service) -> None:
        self.service = service

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "on_get"):
            setattr(cls, "on_head", cls.on_get)  # noqa: B010 - mypy knows no such attribute


class Part(NamedTuple):
    """What hangs on the service: resources by route, in place of those of the core, and middleware.

    `package` has the table `api.toml`, which describes the routes. The middleware runs before it is
    decided who may use a resource. `problem` says what is wrong, for health, or "".
    """

    package: str
    routes: Mapping[str, type[Resource]]
    middleware: Sequence[Callable[[Service], object]] = ()
    problem: Callable[[Service], str] = lambda service: ""
