"""What `deploy/k8s` gives: the base with every combination of components, and the overlays, built by kustomize.

kustomize is the one in kubectl, which comes as a wheel. `python -m tests.contract.manifests FOLDER` writes every
object of all of that once, as folders that can be sent to an API server: docs/kubernetes.md.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
NAMESPACE = "docfleet"

#: Without these the rest of a build cannot be tried.
PREREQUISITES = {"Namespace", "ServiceAccount"}

#: In the order in which a kustomization lists them: what adds objects comes before what changes them.
COMPONENTS = ("kafka-strimzi", "postgres-cnpg", "gcs-fake", "monitoring", "keda", "ha", "gpu", "workload-identity")
#: Both say where documents are, so one of them at most.
EXCLUSIVE = {"gcs-fake", "workload-identity"}
OVERLAYS = ("kind", "gke")

Object = dict[str, Any]
#: The objects of one build.
Build = list[Object]


def kubectl() -> str | None:
    """Return the kubectl that is installed beside this Python, else any other."""
    return shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")


def combinations() -> list[tuple[str, ...]]:
    """Return every set of components that makes sense, each in the order of COMPONENTS."""
    sizes = range(len(COMPONENTS) + 1)
    every = itertools.chain.from_iterable(itertools.combinations(COMPONENTS, size) for size in sizes)
    return [chosen for chosen in every if not EXCLUSIVE.issubset(chosen)]


def build_all() -> dict[str, Build]:
    """Return the objects of every combination, by the components' names, and of every overlay by its own name."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        folders = {name: K8S / "overlays" / name for name in OVERLAYS}
        for number, chosen in enumerate(combinations()):
            folders[" + ".join(("base", *chosen))] = _combination(Path(scratch).resolve() / str(number), chosen)
        return dict(zip(folders, pool.map(build, folders.values()), strict=True))


def build(folder: Path) -> Build:
    """Return the objects that kustomize makes of a folder."""
    command = [kubectl() or "kubectl", "kustomize", str(folder)]
    # a build is over before its memory is worth collecting
    environment = {**os.environ, "GOGC": "off"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, f"{folder}: {done.stderr}"
    assert done.stderr == "", f"{folder}: {done.stderr}"
    return [parsed(text) for text in done.stdout.split("\n---\n")]


@cache
def parsed(text: str) -> Object:
    """Return the object that a YAML document says; most builds have most of them in common. Do not change it."""
    return yaml.load(text, yaml.CSafeLoader)  # noqa: S506  # safe


def _combination(folder: Path, components: Iterable[str]) -> Path:
    """Write a kustomization of the base with components and return its folder."""
    folder.mkdir()
    home = os.path.relpath(K8S, folder)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [f"{home}/base"],
        "components": [f"{home}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), "utf-8")
    return folder


def distinct(builds: Mapping[str, Build]) -> list[Object]:
    """Return every object that differs from all others, whichever build it is of."""
    return list({json.dumps(found, sort_keys=True): found for found in itertools.chain(*builds.values())}.values())


def identity(found: Object) -> tuple[str, str, str]:
    """Return what a cluster knows an object by."""
    metadata = found["metadata"]
    return found["kind"], metadata.get("namespace", ""), metadata["name"]


def write_layers(target: Path, objects: Iterable[Object]) -> list[Path]:
    """Write the objects as kustomize folders below `target`, as few as there are versions of one object."""
    objects = list(objects)
    first = {identity(found): found for found in objects if found["kind"] in PREREQUISITES}
    layers: list[dict[tuple[str, str, str], Object]] = []
    for found in objects:
        key = identity(found)
        if key in first:
            continue
        layer = next((layer for layer in layers if key not in layer), None)
        if layer is None:
            layers.append(layer := dict(first))
        layer[key] = found
    folders = []
    for number, layer in enumerate(layers):
        folder = target / f"layer-{number}"
        folder.mkdir(parents=True)
        (folder / "objects.yaml").write_text(yaml.safe_dump_all(layer.values()), "utf-8")
        (folder / "kustomization.yaml").write_text("resources: [objects.yaml]\n", "utf-8")
        folders.append(folder)
    return folders


if __name__ == "__main__":
    for written in write_layers(Path(sys.argv[1]), distinct(build_all())):
        sys.stdout.write(f"{written}\n")
