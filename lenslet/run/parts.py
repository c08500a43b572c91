"""What hangs on the service. Who leaves a part out deletes its package, and its lines here."""

import lenslet.archive
import lenslet.gallery
import lenslet.guests

PARTS = (
    lenslet.archive.PART,
    lenslet.gallery.PART,
    lenslet.guests.PART,
)
