"""What measures speed: YourBERT beside other libraries, a step, a server, tokenizing, each trick left out.

`run` measures the cases of `cases` in turns (`interleave`; each variant a process: `worker`, with `ours` or one of
`peers`), `goals` judges what came out, and `render` puts `results/` into docs/performance.md. What answers questions of
quality lives in `quality`. The library imports none of this.
"""
