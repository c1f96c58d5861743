"""What sources have in common that keep a structure per folder, or one structure in one file."""

from pathlib import Path

from deeph_zero.data.formats.folders import structure_folders
from deeph_zero.data.formats.protocol import Matrices, Structure
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError
from deeph_zero.host.files import regular_file


class FolderSource:
    """One folder per structure.

    Attributes:
        needed: A file that every such folder has.
    """

    needed: str

    def __init__(self, path: Path) -> None:
        """Find the folders.

        Args:
            path: One of them, a folder of them, or the parent of their ``dft``.

        Raises:
            WholeFileError: If there is none.
        """
        self._folders = structure_folders(path, self.needed)

    def __len__(self) -> int:
        """Number of structures."""
        return len(self._folders)

    def place(self, index: int) -> str:
        """The structure's folder."""
        return str(self._folders[index])


class OneFileSource:
    """One file with one structure, read when it is first asked for.

    Attributes:
        ending: Ending of the file's name, as messages write it; case does not matter.
        title: The file with its article, for messages.
    """

    ending: str
    title: str

    def __init__(self, path: Path) -> None:
        """Find the file.

        Args:
            path: The file, or a folder with one of them.

        Raises:
            WholeFileError: If there is none, or several.
        """
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() == self.ending.lower())
            if len(found) != 1:
                names = ", ".join(p.name for p in found[:3]) or "none"
                raise WholeFileError(
                    f"expected one {self.ending} file in the folder, got {names}; name it"
                )
            path = found[0]
        if not path.is_file():
            raise WholeFileError(f"expected {self.title}, there is no such file; check the path")
        regular_file(path)
        self._path = path
        self._read: tuple[Structure, Matrices] | None = None

    def __len__(self) -> int:
        """One."""
        return 1

    def place(self, index: int) -> str:
        """The file."""
        del index
        return str(self._path)

    def structure(self, index: int) -> Structure:
        """Cell and atoms; a crystal where the file says so."""
        return self._all(index)[0]

    def matrices(self, index: int) -> Matrices:
        """H and S; of spinors where the calculation mixed the spins."""
        return self._all(index)[1]

    def _parse(self, path: Path) -> tuple[Structure, Matrices]:
        """Read the file; the format's own part."""
        raise NotImplementedError

    def _all(self, index: int) -> tuple[Structure, Matrices]:
        if index != 0:
            raise InputError(f"expected structure 0, got {index}; the file holds one")
        if self._read is None:
            self._read = self._parse(self._path)
        return self._read
