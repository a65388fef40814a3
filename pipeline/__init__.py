"""Regard: does attention pay in image classifiers, and what does it cost?"""

import sys
from importlib.machinery import FileFinder, SourceFileLoader
from types import CodeType


class _SourceLoader(SourceFileLoader):
    """Compiles each module when it is imported: 50 ms for a stage.

    Python would believe a compiled one in ``__pycache__`` if the second and the size of the source
    are the same, and so run code that is no longer there.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _find(path: str) -> FileFinder:
    if path != __path__[0] and not path.startswith(f"{__path__[0]}/"):
        raise ImportError
    return FileFinder(path, (_SourceLoader, [".py"]))


sys.path_hooks.insert(0, _find)
