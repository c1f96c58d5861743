"""XML of strangers: plain documents, nothing that names another file or grows."""

import pytest

from deeph_zero.data.reading.xml_text import plain_xml
from deeph_zero.errors import InputError


def test_a_plain_document():
    root = plain_xml('<?xml version="1.0" encoding="latin-1"?>\n<a b="1"><c>x &amp; y</c></a>')
    assert (root.tag, root.attrib, root.findtext("c")) == ("a", {"b": "1"}, "x & y")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "expected plain XML, got <!DOCTYPE, which"),
        ("<a><!ENTITY x SYSTEM 'file:///etc/passwd'></a>", "got <!ENTITY"),
        ("<!ATTLIST a b CDATA #IMPLIED><a/>", "got <!ATTLIST"),
        ("<a>", "expected XML, got a fault"),
        ("", "expected XML, got a fault"),
        ("<a>&undefined;</a>", "expected XML, got a fault"),
    ],
)
def test_other_documents_are_refused(text, words):
    with pytest.raises(InputError, match=words):
        plain_xml(text)
