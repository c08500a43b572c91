"""What hangs on the service. To leave a part out, delete its package and its lines here."""

import lenslet.archive
import lenslet.gallery
import lenslet.guests

PARTS = (
    lenslet.archive.PART,
    lenslet.gallery.PART,
    lenslet.guests.PART,
)
