"""Triton's interpreter runs the kernels for GPUs on the CPU where there is no GPU; Triton must find this set when it is imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
