"""The gallery page: what a browser gets at `/`, and the searches that are saved there.

Nothing imports it but `run`.
"""

from lenslet.gallery.page import Index, PageFile
from lenslet.gallery.searches import Searches, saved_in
from lenslet.web.service import Part

PART = Part(
    __name__,
    {"/": Index, "/page/{version}/{name}": PageFile, "/searches": Searches},
    problem=lambda service: saved_in(service.tree).problem,
)
