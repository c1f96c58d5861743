"""XML of other programs without document types: nothing in a file names another one, or grows."""

from xml.etree import ElementTree as ET

from deeph_zero.errors import InputError

_TYPES = ("<!DOCTYPE", "<!ENTITY", "<!ELEMENT", "<!ATTLIST")


def plain_xml(text: str) -> ET.Element:
    """The root of a document.

    Args:
        text: The whole document; as it is text, no declared encoding is followed.

    Returns:
        The root.

    Raises:
        InputError: If it has a document type, or is no XML.
    """
    found = next((kind for kind in _TYPES if kind in text), None)
    if found is not None:
        raise InputError(
            f"expected plain XML, got {found}, which could make the file grow when it is read; "
            "take the original file"
        )
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise InputError(f"expected XML, got a fault ({error}); copy the file again") from None
