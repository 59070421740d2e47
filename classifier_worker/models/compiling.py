"""torch.compile for towers, block by block.

A transformer is one block repeated, and torch.compile translates equal blocks once: a tower of 28 blocks is ready in
a small part of the time that its whole graph takes (https://docs.pytorch.org/tutorials/recipes/regional_compilation.html).
What stands between the blocks (embeddings, masks, pooling) runs as it is written.
"""

import torch


def compile_blocks(model: torch.nn.Module, backend: str) -> int:
    """Compile each repeated block of `model` in place, for static shapes; return how many blocks that were."""
    blocks = [block for series in model.modules() if _is_repetition(series) for block in series.children()]
    for block in blocks:
        block.compile(dynamic=False, backend=backend)
    return len(blocks)


def _is_repetition(module: torch.nn.Module) -> bool:
    """Whether `module` is a series of blocks of one kind and one size; the stages of a convolutional net differ."""
    if not isinstance(module, (torch.nn.ModuleList, torch.nn.Sequential)) or len(module) < 2:
        return False
    kinds = {(type(block), *(tuple(weights.shape) for weights in block.parameters())) for block in module}
    return len(kinds) == 1 and any(True for _ in module[0].parameters())
