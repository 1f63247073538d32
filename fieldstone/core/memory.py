"""Memory for large tensors that are read at random."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["zeros_in_large_pages"]


def zeros_in_large_pages(shape: tuple[int, ...] | torch.Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """A CPU tensor of zeros whose memory the kernel is asked to back with 2 MiB pages where it offers them.

    numpy asks for them (MADV_HUGEPAGE) on arrays of 4 MiB and more, torch's allocator does not. A hash grid touches a random
    page at every corner; with 4 KiB pages half of its time went into address translation (measured, T = 2^19).
    """
    return torch.from_numpy(np.zeros(tuple(shape), torch.zeros(0, dtype=dtype).numpy().dtype))
