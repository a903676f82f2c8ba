"""A layer's training step in a few kernels, for a GPU.

The plain layer (`yourbert/encoder.py`) asks a GPU for some eighty small operations forward and backward, each of which
reads and writes what the one before it wrote. Here a layer is one function with its backward written out: matrix
products by cuBLAS, and between them one Triton kernel where there were five to ten operations. The weights that the
products read are bf16 copies which AdamW rewrites as it moves the masters, and the products write their gradients
where AdamW reads them.

fusion.py    which layers of a model are fused, tried at the start; their part of the optimizer's step
layer.py     a layer as a function: what is computed in which order, forward and backward
embeddings.py   the same for the embeddings
weights.py   a layer's masters, bf16 copies, gradients and moments, each in one piece of memory
plain.py     the kernels' work in PyTorch's own operations: the reference, and how a CPU tests the rest
kernels.py   the same by Triton
attention.py, rows.py, embed.py, moving.py, draws.py   the Triton programs
"""
