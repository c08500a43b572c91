"""Links for guests: what they are (`links`), how they are made, and what they show (`view`).

Nothing imports it but `run`.
"""

from lenslet.guests.links import links_of
from lenslet.guests.resources import AllLinks, Cover, GuestSession, OneLink
from lenslet.guests.view import Guests
from lenslet.web.service import Part

PART = Part(
    __name__,
    {
        "/links": AllLinks,
        "/links/{link}": OneLink,
        "/links/{link}/cover": Cover,
        "/session": GuestSession,
    },
    (Guests,),
    lambda service: links_of(service.tree).problem,
)
