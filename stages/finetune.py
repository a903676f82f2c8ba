"""Tailor the encoder to one task: `python -m stages.finetune <task> <seed>`."""

from stages import BUILD, METRICS, PLOTS, run


def main(task: str, seed: str) -> None:
    from yourbert.launch import in_ranks

    in_ranks(train, lambda params: params.ranks)(task, seed)


def train(task: str, seed: str) -> None:
    from yourbert.params import read_params
    from yourbert.tailor import tailor

    params = read_params()
    tailor(
        name=task,
        mixture=params.mixture(task),
        settings=params.training(task),
        runtime=params.runtime(params.ranks),
        seed=int(seed),
        encoder=BUILD / "encoder",
        tokens=BUILD / "tokens",
        out=BUILD / "models" / task / seed,
        curve=PLOTS / "curves" / task / f"{seed}.csv",
        cost=METRICS / "cost" / task / f"{seed}.json",
    )


if __name__ == "__main__":
    run(main)
