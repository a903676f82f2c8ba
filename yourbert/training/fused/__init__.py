"""Fused training: a layer's forward and backward pass by a few kernels, in Triton on a GPU and in C on a CPU.

The plain layer (`yourbert/model/encoder.py`) launches about eighty small operations forward and backward, and each of
them reads and writes memory. Here a layer is one autograd function with a hand-written backward: the matrix products of
the usual libraries, and between them one kernel in place of five to ten operations. The products read bf16 copies of
the weights, which AdamW rewrites when it updates the fp32 masters, and write their gradients where AdamW reads them.

fusion.py       which layers of a model are fused, tested at the start; the optimizer step of their weights
layer.py        a layer as an autograd function: the order of computation, forward and backward
embeddings.py   the same for the embeddings
weights.py      the buffers of masters, bf16 copies, gradients and moments
interface.py    the interface of the kernels
plain.py        the kernels by PyTorch operations: the reference for the others
kernels.py      the kernels by Triton; their programs: attention.py, rows.py, embed.py, adamw.py
native.py       the kernels in C, compiled by compiled.py from csrc/: attention.c, rows.c, embed.c, adamw.c
"""
