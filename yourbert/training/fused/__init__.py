"""A layer's training step in a few kernels.

The plain layer (`yourbert/model/encoder.py`) asks for some eighty small operations forward and backward, each of which
reads and writes what the one before it wrote. Here a layer is one function with its backward written out: matrix
products by the library that has them, and between them one kernel where there were five to ten operations: by Triton on
a GPU, in C on a CPU. The weights that the products read are bf16 copies which AdamW rewrites as it moves the masters,
and the products write their gradients where AdamW reads them.

fusion.py    which layers of a model are fused, tried at the start; their part of the optimizer's step
layer.py     a layer as a function: what is computed in which order, forward and backward
embeddings.py   the same for the embeddings
weights.py   the buffers of masters, bf16 copies, gradients and moments
interface.py what is asked of kernels
plain.py     the kernels' work in PyTorch's own operations: the reference for the others
kernels.py   the same by Triton
attention.py, rows.py, embed.py, adamw.py    the Triton programs
native.py    the same in C, compiled by compiled.py
csrc/        the sources: attention.c, rows.c, embed.c and adamw.c do what the programs of those names do
"""
