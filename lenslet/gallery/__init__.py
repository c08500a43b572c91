"""The gallery page: what a browser gets at `/`. Nothing imports it but `run`."""

from lenslet.gallery.page import Index, PageFile
from lenslet.web.service import Part

PART = Part(__name__, {"/": Index, "/page/{version}/{name}": PageFile})
