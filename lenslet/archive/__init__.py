"""What programs take away: archives of originals, and a feed. Nothing imports it but `run`."""

from lenslet.archive.feed import Feed
from lenslet.archive.zip import Zip
from lenslet.web.service import Part

PART = Part(__name__, {"/zip": Zip, "/feed": Feed})
