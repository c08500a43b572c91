"""XMP and IPTC as programs write them into images."""

from bombs import segment

START = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
NAMES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xap": "http://ns.adobe.com/xap/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
}


def packet(inner: str, attributes: str = "") -> bytes:
    names = " ".join(f'xmlns:{name}="{uri}"' for name, uri in NAMES.items())
    description = f'<rdf:Description rdf:about="" {attributes}>{inner}</rdf:Description>'
    body = f"<x:xmpmeta {names}><rdf:RDF>{description}</rdf:RDF></x:xmpmeta>"
    return f'{START}\n{body}\n{" " * 100}<?xpacket end="w"?>'.encode()


def bag(name: str, *texts: str) -> str:
    return f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{t}</rdf:li>' for t in texts)}</rdf:Bag></{name}>"


def alt(name: str, **texts: str) -> str:
    items = (f'<rdf:li xml:lang="{k.replace("_", "-")}">{v}</rdf:li>' for k, v in texts.items())
    return f"<{name}>\n <rdf:Alt>\n{''.join(items)} </rdf:Alt>\n</{name}>"


def iim(*records: tuple[int, int, bytes]) -> bytes:
    return b"".join(bytes((28, r, n)) + len(v).to_bytes(2, "big") + v for r, n, v in records)


def app13(iptc: bytes) -> bytes:
    resource = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc
    return segment(0xED, b"Photoshop 3.0\0" + resource)


UTF_8 = (1, 90, b"\x1b%G")
