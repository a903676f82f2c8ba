"""Tailor the encoder to one task: `python -m stages.finetune <task> <seed>`."""

from stages import BUILD, PLOTS, run
from yourbert.launch import in_ranks
from yourbert.params import Mixture, read_params
from yourbert.tailor import tailor


def main(task: str, seed: str) -> None:
    params = read_params()
    tailor(
        name=task,
        mixture=Mixture(tasks=[task], sampling="proportional"),
        settings=params.training(task),
        runtime=params.runtime(params.ranks),
        seed=int(seed),
        encoder=BUILD / "encoder",
        tokens=BUILD / "tokens",
        out=BUILD / "models" / task / seed,
        curve=PLOTS / "curves" / task / f"{seed}.csv",
    )


if __name__ == "__main__":
    run(in_ranks(main, lambda params: params.ranks))
